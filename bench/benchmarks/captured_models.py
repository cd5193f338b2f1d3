"""Captured steps of the examples' models against the same steps in a bare LibTorch loop."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

CASES = ("GPT 2 x 32, 8 x 32 tokens", "LSTM of char_rnn, 32 x 64 bytes", "CNN of digits, batch 32",
         "GPT 4 x 128, 16 x 128 tokens")  # the models of bench/captured, in its order


def runs(setting):
    steps = ["2"] if setting.quick else []
    return [Run([setting.program("bench/captured"), str(model), who, *steps], case, who)
            for model, case in enumerate(CASES) for who in ("captured", "bare")
            if not setting.quick or who == "captured" or model == 0]


BENCHMARK = Benchmark(
    name="captured_models",
    place=20,
    title="Captured steps of the examples' models",
    about="""The same training_step on both sides, batches made beforehand, Troupe's AdamW. A time is the
mean of a step over an epoch, after an epoch to warm up. Ours go through the whole cast and log.""",
    contenders={"captured": Contender("Troupe, captured", is_ours=True), "bare": Contender("bare LibTorch loop")},
    measures=(Measure("us", "us", "time of a step"),),
    runs=runs,
    minutes=1.5,
    bars=tuple(Bar("captured", ("bare",), factor, (case,)) for case, factor in zip(CASES, (1.3, 1.1, 1.3, 1))),
    programs=("bench/captured",),
    has_peers=False,
)
