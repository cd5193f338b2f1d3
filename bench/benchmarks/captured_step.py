"""The captured training step beside other ways to run the same step."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

CASES = ("784-16-10 b8", "784-128-10 b32", "784-512-10 b64")  # the models of bench/step_times, in its order
STEPS = (3000, 800, 200)  # of an epoch
OURS = ("captured", "plain", "bare")
PEERS = {"eager": "torch_step.py", "compile": "torch_step.py", "jax": "jax_step.py", "lightning": "lightning_step.py"}


def runs(setting):
    found = []
    for model, case in enumerate(CASES):
        steps = [str(50 if setting.quick else STEPS[model])]
        found += [Run([setting.program("bench/step_times"), str(model), who, *steps], case, who) for who in OURS]
        if setting.python:
            found += [Run([*setting.peer(script, model, who), *steps], case, who) for who, script in PEERS.items()]
    return found


def bars(peer, factors):
    return [Bar("captured", peer, factor, (case,)) for case, factor in zip(CASES, factors)]


BENCHMARK = Benchmark(
    name="captured_step",
    place=10,
    title="The captured training step",
    about="""An MLP 784-H-10 with cross entropy and Adam in float32, 64 batches made beforehand and used in turn. A time is
the mean of a step over an epoch, after an epoch to warm up. Troupe's steps go through the whole cast and log the loss in every
step, to the default sinks; the peers log nothing. The bare loop is C++ with autograd and LibTorch's fused Adam. PyTorch is
eager mode with the fused Adam, and torch.compile (mode "default") of the model with its loss and of the optimizer's step; the
better of the two has to be beaten. JAX is jax.jit of the whole step with donated buffers, and optax's Adam. Lightning has its
fastest settings: barebones, batches that are there, the fused Adam.""",
    contenders={
        "captured": Contender("Troupe, captured", is_ours=True),
        "plain": Contender("Troupe, plain", is_ours=True),
        "bare": Contender("bare LibTorch loop"),
        "eager": Contender("PyTorch, eager"),
        "compile": Contender("PyTorch, torch.compile"),
        "jax": Contender("JAX, jax.jit"),
        "lightning": Contender("Lightning, barebones"),
    },
    measures=(Measure("us", "us", "time of a step"),),
    runs=runs,
    minutes=8.5,
    bars=(*bars(("bare",), (4, 1.6, 1.3)), *bars(("jax",), (2, 1.3, 1.1)), *bars(("lightning",), (50, 8, 2.5)),
          *bars(("eager", "compile"), (10, 2.7, 1.6))),
    programs=("bench/step_times",),
)
