"""Runs exported models on the inputs that lie beside them: check_exported.py [--compile] FOLDER.

FOLDER holds for each model <name>.onnx (several: <name>@<what>.onnx), <name>.pt and <name>.pt2, whichever there are,
and <name>.safetensors with the tensors "<sample>.in.<index>" and "<sample>.out.<index>". ONNX models must pass the full
check of the onnx package; onnxruntime, torch.jit and torch.export must give equal outputs; with --compile
AOTInductor compiles <name>.pt2 before it runs. Prints a line for each problem.
"""
import logging
import os
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file

COMPILES = "--compile" in sys.argv[1:]
TOLERANCE = {".onnx": 1e-5, ".pt": 1e-5, ".pt2": 1e-5 if COMPILES else 1e-6}


def samples_of(path):
    samples = {}
    for name, tensor in load_file(path).items():
        sample, end, index = name.split(".")
        samples.setdefault(sample, {"in": {}, "out": {}})[end][int(index)] = tensor
    return {key: [[part[i] for i in sorted(part)] for part in (ends["in"], ends["out"])]
            for key, ends in samples.items()}


def difference(expected, got, tolerance):
    """What is wrong with `got`; empty where nothing is."""
    if len(expected) != len(got):
        return f"{len(got)} outputs, not {len(expected)}"
    for index, (want, have) in enumerate(zip(expected, got)):
        want, have = want.numpy(), numpy.asarray(have)
        if want.dtype != have.dtype or want.shape != have.shape:
            return f"output {index} is {have.dtype}{have.shape}, not {want.dtype}{want.shape}"
        if not numpy.allclose(want, have, rtol=tolerance, atol=tolerance, equal_nan=True):
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


def run_program(path):
    program = torch.export.load(str(path))
    if COMPILES:
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(path.with_suffix(".aoti.pt2")))
        module = torch._inductor.aoti_load_package(package)
    else:
        module = program.module()

    def run(inputs):
        with torch.no_grad():
            out = module(*(tensor.clone() for tensor in inputs))
        return [tensor.numpy() for tensor in (out if isinstance(out, tuple) else (out,))]
    return run


RUNNERS = {".onnx": run_onnx, ".pt": run_torch, ".pt2": run_program}


def problems_of(path, samples):
    try:
        run = RUNNERS[path.suffix](path)
        for key, (inputs, outputs) in samples.items():
            wrong = difference(outputs, run(inputs), TOLERANCE[path.suffix])
            if wrong:
                yield f"sample {key}: {wrong}"
    except Exception as error:
        yield f"{type(error).__name__}: {str(error)[:600]}"


def main():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # torch.export on storages without a byte
    folder = pathlib.Path(sys.argv[-1])
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    for path in sorted(folder.glob("*.safetensors")):
        samples = samples_of(path)
        for model in sorted([*folder.glob(path.stem + ".onnx"), *folder.glob(path.stem + "@*.onnx"),
                             *folder.glob(path.stem + ".pt"), *folder.glob(path.stem + ".pt2")]):
            for problem in problems_of(model, samples):
                print(f"{model.name}: {problem}")


main()
