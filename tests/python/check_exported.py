"""Runs exported models on the inputs that lie beside them: check_exported.py FOLDER.

FOLDER holds for each model <name>.onnx (several: <name>@<what>.onnx) and <name>.pt, whichever there are, and
<name>.safetensors with the tensors "<sample>.in.<index>" and "<sample>.out.<index>". ONNX models must pass the full
check of the onnx package; onnxruntime and torch.jit must give equal outputs. Prints a line for each problem.
"""
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file

TOLERANCE = 1e-5


def samples_of(path):
    samples = {}
    for name, tensor in load_file(path).items():
        sample, end, index = name.split(".")
        samples.setdefault(sample, {"in": {}, "out": {}})[end][int(index)] = tensor
    return {key: [[part[i] for i in sorted(part)] for part in (ends["in"], ends["out"])]
            for key, ends in samples.items()}


def difference(expected, got):
    """What is wrong with `got`; empty where nothing is."""
    if len(expected) != len(got):
        return f"{len(got)} outputs, not {len(expected)}"
    for index, (want, have) in enumerate(zip(expected, got)):
        want, have = want.numpy(), numpy.asarray(have)
        if want.dtype != have.dtype or want.shape != have.shape:
            return f"output {index} is {have.dtype}{have.shape}, not {want.dtype}{want.shape}"
        if not numpy.allclose(want, have, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            return f"output {index} is off by {numpy.abs(want.astype(float) - have).max()}"
    return ""


def run_onnx(path):
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs)})


def run_torch(path):
    module = torch.jit.load(str(path))
    if module.training:
        raise ValueError("it is in train mode")

    def run(inputs):
        out = module(*inputs)
        return [tensor.detach().numpy() for tensor in (out if isinstance(out, tuple) else (out,))]
    return run


def problems_of(path, samples, load):
    try:
        run = load(path)
        for key, (inputs, outputs) in samples.items():
            wrong = difference(outputs, run(inputs))
            if wrong:
                yield f"sample {key}: {wrong}"
    except Exception as error:
        yield f"{type(error).__name__}: {str(error)[:600]}"


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    for path in sorted(folder.glob("*.safetensors")):
        samples = samples_of(path)
        for model in sorted([*folder.glob(path.stem + ".onnx"), *folder.glob(path.stem + "@*.onnx"),
                             *folder.glob(path.stem + ".pt")]):
            for problem in problems_of(model, samples, run_torch if model.suffix == ".pt" else run_onnx):
                print(f"{model.name}: {problem}")


main()
