"""How long a checkpoint holds the training."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

CASE = "100 MB of weights, 300 MB with Adam's state"
LAYERS, WIDTH, SAVES = 24, 1020, 3


def runs(setting):
    size = ["2", "64", "2"] if setting.quick else [str(LAYERS), str(WIDTH), str(SAVES)]
    found = [Run([setting.program("bench/checkpoint"), *size], CASE)]
    if setting.python:
        found += [Run(setting.peer("torch_checkpoint.py", who, *size, setting.folder), CASE, who)
                  for who in ("lightning", "lightning_async", "torch_save")]
    return found


BENCHMARK = Benchmark(
    name="checkpoint",
    place=80,
    title="A checkpoint",
    about="""A stack of linear layers with Adam; a checkpoint of all of its state every fifth step, to a local disk, the one
before replaced. Troupe and Lightning: the time from the end of that step to the start of the next one, less what it is without a
checkpoint. torch.save: the call, of a dictionary with both states. The copy is a plain one of parameters and moments into memory
that is there, on the training thread: whoever takes the state at a step has to do as much. Troupe writes its file beside the training,
with checksums and fsync; the peers do not wait for the disk. Lightning with AsyncCheckpointIO copies, then writes in a
thread.""",
    contenders={
        "ours": Contender("Troupe", is_ours=True),
        "copy": Contender("a copy of the state"),
        "lightning": Contender("Lightning, ModelCheckpoint"),
        "lightning_async": Contender("Lightning, AsyncCheckpointIO"),
        "torch_save": Contender("torch.save"),
    },
    measures=(Measure("ms", "ms", "training is held"),),
    runs=runs,
    minutes=2.5,
    bars=(Bar("ours", ("lightning",), 10), Bar("ours", ("torch_save",), 10), Bar("ours", ("lightning_async",)),
          Bar("ours", ("copy",), share=1.2)),
    programs=("bench/checkpoint",),
)
