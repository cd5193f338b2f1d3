"""Writes arrays with numpy: write_arrays.py FOLDER. For each of its files NAME.npy there is NAME.raw, the values in C order
and in this machine's byte order. Prints "NAME TYPE SIZES" a line, TYPE as LibTorch calls it.

Also writes both kinds of .npz, and files of what LibTorch lacks.
"""
import sys
from pathlib import Path

import numpy as np

TYPES = {"bool": "Bool", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long", "uint8": "Byte",
         "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64", "float16": "Half", "float32": "Float",
         "float64": "Double", "complex64": "ComplexFloat", "complex128": "ComplexDouble"}
folder = Path(sys.argv[1])


def keep(name, array):
    plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    (folder / f"{name}.raw").write_bytes(plain.tobytes())
    print(name, TYPES[plain.dtype.name], ",".join(str(size) for size in array.shape) or "-")


def write(name, array, version=None):
    with open(folder / f"{name}.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=version)
    keep(name, array)


values = np.arange(-12, 12).reshape(2, 3, 4)
for dtype in TYPES:
    array = (values % 2 == 0) if dtype == "bool" else values.astype(dtype)
    if dtype.startswith("complex"):
        array = array + np.array(0.5j, dtype=dtype)
    write(f"{dtype}_c", array)
    write(f"{dtype}_fortran", np.asfortranarray(array))
    write(f"{dtype}_big", array.astype(array.dtype.newbyteorder(">")))
    write(f"{dtype}_empty", array[:, :0])
    write(f"{dtype}_scalar", array[1, 2, 3, None].reshape(()))
for version in [(1, 0), (2, 0), (3, 0)]:
    write(f"version_{version[0]}", values.astype(np.float32), version)
write("big_fortran", np.asfortranarray(values.astype(">f8")))
write("fortran_matrix", np.asfortranarray(values.astype(np.float32).reshape(6, 4)))
write("many_sizes", values.astype(np.int16).reshape((1,) * 20 + (24,) + (1,) * 20))

np.save(folder / "not_objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
np.save(folder / "not_structured.npy", np.zeros(3, dtype=[("x", "<f4"), ("y", "<i8", (2,))]))
np.save(folder / "not_strings.npy", np.array(["one", "three"]))
np.save(folder / "not_bytes.npy", np.array([b"one", b"three"]))
np.save(folder / "not_dates.npy", np.array(["2024-05-20"], dtype="datetime64[D]"))
np.save(folder / "not_durations.npy", np.array([3], dtype="timedelta64[ns]"))
np.save(folder / "not_long_double.npy", np.zeros(3, dtype=np.longdouble))
np.save(folder / "not_void.npy", np.zeros(3, dtype="V2"))
fields = [(f"field_{i:05}", "<f4") for i in range(60000)]
np.save(folder / "not_large_header.npy", np.zeros(1, dtype=fields))

arrays = {"weights": values.astype(np.float32), "labels": np.arange(5), "flags": np.array([True, False]),
          "ordered": np.asfortranarray(values.astype(np.float64)[0]), "none": np.zeros((0, 3), np.int8),
          "one": np.array(7, np.int16), "large": np.arange(300000, dtype=np.int32)}
for name, array in arrays.items():
    keep(name, array)
np.savez(folder / "stored.npz", **arrays)
np.savez_compressed(folder / "compressed.npz", **arrays)
