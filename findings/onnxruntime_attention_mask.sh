#!/usr/bin/env bash
# onnxruntime refuses a padding mask in the shape that ONNX's Attention allows and padding masks have.
#
# Expected: a mask of shape (batch, 1, 1, keys), one row of keys for all heads and queries, masks the padded keys. The
# specification wants no more than that the mask broadcasts to (batch, heads, queries, keys), and so do (1, keys) and (keys,).
# Happens: onnx's checker and its reference evaluator accept such a model, and onnxruntime loads it. When it is run, it
# fails: the mask has to have a row for every query, and two dimensions at least. Only batch and heads broadcast.
# If the same mask is expanded over the queries, onnxruntime computes what the reference does.
#
# Version: onnxruntime 1.31.1 (CPU), onnx 1.22.0
# Source: onnx.ai/onnx/operators, Attention of opset 23, input attn_mask; onnxruntime's
# onnxruntime/core/providers/cpu/llm/attention_helper.h (ComputeOutputShapeForAttention)
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
  onnxruntime==1.31.1 onnx==1.22.0 numpy==2.4.6 protobuf==7.36.2 flatbuffers==25.12.19 packaging==26.4 ml_dtypes==0.6.0 \
  typing_extensions==4.16.0

"$python" - <<'END'
import sys

import numpy
import onnx
import onnx.checker
import onnx.parser
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4  # the error is printed below


def attention(mask):
    model = onnx.parser.parse_model(
        f"""<ir_version: 11, opset_import: ["": 23]>
        attention (float[2,3,5,8] q, float[2,3,7,8] k, float[2,3,7,4] v, bool[{",".join(map(str, mask.shape))}] mask)
            => (float[2,3,5,4] y) {{ y = Attention (q, k, v, mask) }}"""
    )
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model), session


random = numpy.random.default_rng(0)
inputs = {name: random.standard_normal(shape, dtype=numpy.float32)
          for name, shape in {"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 4)}.items()}
lengths = numpy.array([7, 4])
padding = numpy.arange(7) < lengths[:, None]
changed = False
for mask in (padding[:, None, None, :], padding[1:], padding[1]):
    reference, session = attention(mask)
    expected = reference.run(None, inputs | {"mask": mask})[0]
    try:
        session.run(None, inputs | {"mask": mask})
        seen = "a result"
        changed = True
    except Fail as error:
        seen = "an error: ..." + str(error).strip()[-90:]
    print(f"mask of {mask.shape}: expected the reference's result, seen {seen}")

    rows = numpy.broadcast_to(mask, (2, 1, 5, 7)).copy()
    _, session = attention(rows)
    difference = abs(session.run(None, inputs | {"mask": rows})[0] - expected).max()
    print(f"the same of {rows.shape}: off the reference's by {difference:.1e}")
    changed |= not difference < 1e-5

if changed:
    sys.exit("no longer as described")
print("as described: masks that broadcast over the queries are refused")
END
