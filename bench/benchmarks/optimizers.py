"""A step of the optimizers over the parameters of examples/gpt, beside PyTorch's, compiled too."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

CASES = {"adamw": "AdamW", "muon": "Muon, AdamW for what is no matrix"}


def runs(setting):
    steps = ["2"] if setting.quick else []
    all_runs = []
    for optimizer, case in CASES.items():
        all_runs.append(Run([setting.program("bench/captured"), "optimizer", optimizer, *steps], case, "troupe"))
        if setting.python:
            all_runs += [Run(setting.peer("torch_optimizers.py", optimizer, who, *steps), case, who)
                         for who in ("compile", "eager")]
    return all_runs


BENCHMARK = Benchmark(
    name="optimizers",
    place=21,
    title="Steps of optimizers",
    about="""The parameters of examples/gpt (4 blocks of width 128, 0.84 million numbers) with gradients that stay as they are;
one thread. A time is the mean processor time of a step over 200, after 20 to warm up.""",
    contenders={"troupe": Contender("Troupe", is_ours=True), "compile": Contender("PyTorch, torch.compile"),
                "eager": Contender("PyTorch, eager")},
    measures=(Measure("us", "us", "processor time of a step"),),
    runs=runs,
    minutes=3,
    bars=(Bar("troupe", ("compile",), 1), Bar("troupe", ("eager",))),
    programs=("bench/captured",),
)
