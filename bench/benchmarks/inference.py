"""The latency of a trained model."""
import os

from harness.benchmark import Bar, Benchmark, Contender, Measure, Run


def runs(setting):
    program, amount = setting.program("bench/inference"), ["1", "1"] if setting.quick else ["5"]
    found = [Run([program, "latency", *amount])]
    if setting.python:
        found.append(Run([*setting.peer("onnx_inference.py", program, os.path.join(setting.folder, "models")), *amount]))
    return found


PEERS = ("plain", "torchscript", "onnx")

BENCHMARK = Benchmark(
    name="inference",
    place=15,
    title="The latency of a prediction",
    about="""MLPs 784-H-10 and the convolutional network of examples/digits (206,922 weights), a batch of 1 and of 32, in float32 on
one thread: the middle of the calls, and what 99 of 100 stay below. `Predictor` has its defaults. The plain forward is LibTorch's
under `InferenceMode`; TorchScript is traced, frozen and treated with `optimize_for_inference`. These three alternate within one
process, a few hundred to 4,000 calls each, and a number is the middle of five such rounds. onnxruntime runs what `to_onnx` wrote, from Python
with inputs and outputs bound beforehand. All compute the same outputs to 1e-4, which is checked first.""",
    contenders={
        "predictor": Contender("Troupe, Predictor", is_ours=True),
        "plain": Contender("LibTorch, forward"),
        "torchscript": Contender("TorchScript"),
        "onnx": Contender("onnxruntime"),
    },
    measures=(Measure("p50", "us", "time of a call, median"), Measure("p99", "us", "time of a call, 99 of 100")),
    runs=runs,
    minutes=4,
    bars=tuple(Bar("predictor", PEERS, 1, measure=measure) for measure in ("p50", "p99")),
    programs=("bench/inference",),
)
