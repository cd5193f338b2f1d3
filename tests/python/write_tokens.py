"""Writes token files as nanoGPT and llm.c do: write_tokens.py FOLDER."""
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
# nanoGPT's data/openwebtext/prepare.py: a memmap, filled.
tokens = np.memmap(folder / "nanogpt.bin", dtype=np.uint16, mode="w+", shape=(1000,))
tokens[:] = np.arange(1000) * 50 % 50257
tokens.flush()
# llm.c's dev/data/data_common.py, write_datafile.
for name, magic, version, dtype in [("gpt2", 20240520, 1, np.uint16), ("llama3", 20240801, 7, np.uint32)]:
    header = np.zeros(256, dtype=np.int32)
    header[0], header[1], header[2] = magic, version, 1000
    values = (np.arange(1000) * (50 if dtype == np.uint16 else 120)).astype(dtype)
    (folder / f"{name}.bin").write_bytes(header.tobytes() + values.tobytes())
