"""What a training waits for its validations, in turn and beside it."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

CASE = "MLP 784-256-10 b64, a validation as long as an epoch"


def runs(setting):
    return [Run([setting.program("bench/async_validation"), *(["1", "10", "2"] if setting.quick else ["3", "400", "6"])], CASE)]


BENCHMARK = Benchmark(
    name="async_validation",
    place=81,
    title="Validation beside the training",
    about="""The MLP 784-256-10 with batches of 64 and Adam, on one compute thread, with as many batches of validation as make a
validation as long as an epoch of training. Fits without validation, with one at the end of each epoch, and with
`trainer.async_validation`, which has a thread for it, alternate within one process. What training waits is the time from its first batch
to the end of its last one, less that of the fit without validation, for each validation in between. It needs two free cores.""",
    contenders={"epoch": Contender("an epoch of training", is_plotted=False),
                "turn": Contender("in turn"),
                "beside": Contender("beside the training", is_ours=True)},
    measures=(Measure("ms", "ms", "training waits for a validation"),),
    runs=runs,
    minutes=1.5,
    bars=(Bar("beside", ("turn",), share=0.1),),
    programs=("bench/async_validation",),
    has_peers=False,
)
