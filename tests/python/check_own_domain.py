"""Runs a model that has an operator of a domain of its own: check_own_domain.py FOLDER.

FOLDER holds square.onnx, in which the node SquaredRelu of the domain com.example, version 3, has the attributes scales,
an exponent and a factor, and label; and square.safetensors with samples as check_exported.py takes them. The file must pass the check of
the onnx package, whose reference runs it with an operator that is defined here. Prints a line for each problem.
"""
import pathlib
import sys

import numpy
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from safetensors.numpy import load_file


class SquaredRelu(OpRun):
    op_domain = "com.example"

    def _run(self, x, scales=None, label=None):
        if label != "own":
            raise ValueError(f"the attribute label is {label}")
        return ((numpy.maximum(x, 0) ** scales[0] * numpy.float32(scales[1])).astype(x.dtype),)


folder = pathlib.Path(sys.argv[1])
onnx.checker.check_model(str(folder / "square.onnx"), full_check=True)
model = onnx.load(folder / "square.onnx")
imports = {entry.domain: entry.version for entry in model.opset_import}
if imports != {"": 20, "com.example": 3}:
    print(f"the domains are {imports}")
run = ReferenceEvaluator(model, new_ops=[SquaredRelu])
samples = load_file(folder / "square.safetensors")
for key in sorted({name.split(".")[0] for name in samples}):
    got = run.run(None, {"input": samples[key + ".in.0"]})[0]
    if not numpy.allclose(got, samples[key + ".out.0"], rtol=1e-5, atol=1e-6):
        print(f"sample {key} is off by {numpy.abs(got - samples[key + '.out.0']).max()}")
