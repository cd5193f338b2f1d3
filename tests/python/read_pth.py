"""Says what torch.load reads from a file: with weights_only=True, the same with mmap=True.

read_pth.py FILE: a line for each value, `name type sizes crc32` of a tensor and else `name repr`; then the names that
share a storage.

read_pth.py --again FILE COPY...: saves what is in each FILE again.
"""

import sys
import zlib

import torch


def lines(value, name):
    if isinstance(value, torch.Tensor):
        storages.setdefault(value.untyped_storage().data_ptr(), []).append(name)
        plain = value.resolve_conj().resolve_neg().contiguous()
        kind = value.type().split(".")[-1].removesuffix("Tensor")
        crc = zlib.crc32(plain.reshape(-1).view(torch.uint8).numpy().tobytes()) if value.numel() else 0
        return [f"{name} {kind} {'x'.join(map(str, value.shape)) or '-'} {crc}"]
    if isinstance(value, dict):
        return [f"{name} {type(value).__name__}"] + [line for key in value for line in lines(value[key], f"{name}.{key}")]
    if isinstance(value, (list, tuple)):
        return [f"{name} {type(value).__name__}"] + [line for i, each in enumerate(value) for line in lines(each, f"{name}.{i}")]
    return [f"{name} {value!r}"]


if sys.argv[1] == "--again":
    for file, copy in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
        torch.save(torch.load(file, weights_only=True), copy)
    sys.exit()

read = []
for options in [{}, {"mmap": True}]:
    storages = {}
    read.append(lines(torch.load(sys.argv[1], weights_only=True, **options), "file"))
    shared = [names for pointer, names in storages.items() if pointer and len(names) > 1]
    read[-1] += ["shared " + " ".join(names) for names in shared]
assert read[0] == read[1]
print("\n".join(read[0]))
