#!/usr/bin/env bash
# safetensors silently scrambles NumPy arrays that are in Fortran order.
#
# Expected: load_file returns what was given to save_file, or save_file refuses. The documentation asks for arrays
# that are contiguous and dense, and these are. A transposed weight (w.T) is such an array, and so are many results of
# linear algebra.
# Happens: the file gets the right shape and dtype, but the values in memory order, so the loaded matrix has the right
# numbers in the wrong places. numpy.save handles the same array correctly, and safetensors.torch.save_file refuses
# the equivalent tensor.
#
# Version: safetensors 0.8.0 with numpy 2.4.6; safetensors 0.7.0 still saved such arrays correctly
# Source: safetensors' bindings/python/py_src/safetensors/numpy.py (_flatten passes on a pointer and a shape, but no
# strides); issue 825 in its repository
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-deps safetensors==0.8.0 numpy==2.4.6

"$python" - "$folder" <<'END'
import sys
from pathlib import Path

import numpy
import safetensors
from safetensors.numpy import load_file, save_file

print("safetensors", safetensors.__version__, "numpy", numpy.__version__)
folder = Path(sys.argv[1])
weight = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
arrays = {"in C order": weight, "in Fortran order": numpy.asfortranarray(weight), "transposed": weight.T}

equal = {}
for name, array in arrays.items():
    assert array.flags.c_contiguous or array.flags.f_contiguous
    save_file({"weight": array}, folder / "weight.safetensors")
    loaded = load_file(folder / "weight.safetensors")["weight"]
    numpy.save(folder / "weight.npy", array)
    assert numpy.array_equal(numpy.load(folder / "weight.npy"), array)
    assert loaded.shape == array.shape and loaded.dtype == array.dtype
    equal[name] = numpy.array_equal(loaded, array)
    print(f"{name}: expected {array.tolist()}, seen {loaded.tolist()}{'' if equal[name] else '  <- scrambled'}")

if equal != {"in C order": True, "in Fortran order": False, "transposed": False}:
    sys.exit("no longer as described")
print("as described: arrays in Fortran order come back scrambled")
END
