"""A step on two ranks against PyTorch's DistributedDataParallel."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

CASES = {"MLP 784-1024-1024-10 b64": ("mlp", 80), "GPT 2 x 32, 8 x 32 tokens": ("tiny-gpt", 200)}


def runs(setting):
    found = []
    for case, (model, steps) in CASES.items():
        if setting.quick and model == "mlp":
            continue
        steps = 5 if setting.quick else steps
        for way in ("captured", "plain"):
            words = [model, way, str(steps)]
            found.append(Run(setting.ranks("bench/rank_times", "ranks", *words), case, f"ranks_{way}"))
            found.append(Run([setting.program("bench/rank_times"), "devices", *words], case, f"devices_{way}"))
        if setting.python:
            found.append(Run(setting.peer("ddp_step.py", model, steps), case, "ddp"))
    return found


BENCHMARK = Benchmark(
    name="distributed",
    place=60,
    title="A step on two ranks",
    about="""Two ranks over MPI, two devices of one process, and two processes under PyTorch's DistributedDataParallel over
Gloo; one compute thread for each rank. float32, batches made beforehand (of this size for each rank), Adam for the MLP and AdamW
with dropout and a schedule for the GPT, fused. DDP has the settings that are its fastest here: gradients as views of the buckets, no
buffers to broadcast.""",
    contenders={
        "ranks_captured": Contender("Troupe, 2 ranks, captured", is_ours=True),
        "ranks_plain": Contender("Troupe, 2 ranks, plain", is_ours=True),
        "devices_captured": Contender("Troupe, 2 devices, captured", is_ours=True),
        "devices_plain": Contender("Troupe, 2 devices, plain", is_ours=True),
        "ddp": Contender("PyTorch DDP, Gloo"),
    },
    measures=(Measure("us", "us", "time of a step"),),
    runs=runs,
    minutes=3,
    bars=(Bar("ranks_captured", ("ddp",), 2), Bar("devices_captured", ("ddp",), 2), Bar("ranks_plain", ("ddp",)),
          Bar("devices_plain", ("ddp",))),
    programs=("bench/rank_times",),
)
