"""Writes files of torch.save into a folder, and says what torch.load(weights_only=True) reads from them.

write_pth.py FOLDER: a line for each tensor, `file name type sizes crc32`, as tensors_of names them.
"""

import collections
import os
import pickle
import sys
import zipfile
import zlib

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.layer = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.decoder = nn.Linear(4, 5, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, x):
        return self.norm(self.layer(x)) @ self.layer.weight @ self.decoder.weight.t()


class Evil:
    def __reduce__(self):
        return os.system, ("touch " + os.path.join(folder, "was_run"),)


class Special(torch.Tensor):
    pass


def lines(file, value, name=""):
    if isinstance(value, torch.Tensor):
        plain = value.detach().resolve_conj().resolve_neg().contiguous()
        kind = value.type().split(".")[-1].removesuffix("Tensor")
        crc = zlib.crc32(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        print(file, name, kind, "x".join(map(str, value.shape)) or "-", crc)
    elif isinstance(value, dict):
        for key, each in value.items():
            lines(file, each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for i, each in enumerate(value):
            lines(file, each, f"{name}.{i}" if name else str(i))


def every_type():
    out = {}
    types = "uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 bool complex64 complex128 uint16 uint32 uint64"
    for name in types.split():
        out[name] = torch.arange(6).to(getattr(torch, name)).reshape(2, 3)
    for name in ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]:
        out[name] = torch.rand(3, 2).to(getattr(torch, name))
    for name in ["float4_e2m1fn_x2", "bits8", "bits1x8", "bits16"]:
        out[name] = torch.arange(8, dtype=torch.uint8).view(getattr(torch, name))
    out["complex32"] = torch.ones(2, dtype=torch.complex64).to(torch.complex32)
    return out


def views():
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "base": base,
        "transposed": base.t(),
        "middle": base[1:3, 2:5],
        "every second": base[:, ::2],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "empty in another way": torch.empty(5, 0),
        "conjugated": torch.tensor([1 + 2j, 3 - 1j]).conj(),
        "imaginary": torch.tensor([1 + 2j, 3 - 1j]).conj().imag,
        "element": base[3, 5],
    }


def lightning(state):
    return {
        "epoch": 3, "global_step": 1200, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.25), "dirpath": "x",
                                                                 "last": None, "every": True}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.rand(2)}},
                              "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1]}]}],
        "lr_schedulers": [{"milestones": collections.Counter([3, 5]), "last_epoch": 3}],
        "hparams_name": "kwargs", "hyper_parameters": {"width": 4, "big": 2**70, "names": {"a"}, "raw": b"\x00\xff"},
    }


def save(name, value, **options):
    torch.save(value, os.path.join(folder, name), **options)
    if not name.startswith("refused"):
        # torch.load's reader knows protocol 2 alone.
        lines(name, torch.load(os.path.join(folder, name), weights_only="pickle_protocol" not in options))


def rezipped(name, to, compression, change=lambda name, data: data):
    with zipfile.ZipFile(os.path.join(folder, name)) as old, \
            zipfile.ZipFile(os.path.join(folder, to), "w", compression) as new:
        for member in old.namelist():
            new.writestr(member.replace("net/", "another name/"), change(member, old.read(member)))
    if not to.startswith("refused"):
        lines(to, torch.load(os.path.join(folder, to), weights_only=True))


folder = sys.argv[1]
torch.manual_seed(5)
net = Net()
net.norm(torch.rand(8, 3))
net.eval()
inputs = torch.rand(2, 4)
save("net.pth", net.state_dict())
save("types.pth", every_type())
save("views.pt", views())
save("nested.pth", {"a": {"b": {"w": torch.ones(2)}, 7: torch.zeros(1)}, "l": [torch.ones(1), (torch.ones(3),)]})
save("keys.pth", {True: torch.ones(1), None: torch.ones(2), 1.5: torch.ones(3), 1e22: [torch.ones(4)], ("a", 1): torch.ones(5),
                  (-0.5,): {(None, False): torch.ones(6)}})
save("parameter.pth", {"p": nn.Parameter(torch.rand(3)), "o": collections.OrderedDict(x=torch.ones(1))})
with_attribute = nn.Parameter(torch.rand(3))
with_attribute.note = "mine"
save("attribute.pth", {"p": with_attribute})
save("lightning.ckpt", lightning(net.state_dict()))
save("protocol4.pth", net.state_dict(), pickle_protocol=4)
save("results.pth", {"net": net.state_dict(), "x": inputs, "y": net(inputs).detach()})
rezipped("net.pth", "deflated.pth", zipfile.ZIP_DEFLATED)
rezipped("net.pth", "unaligned.pth", zipfile.ZIP_STORED)
with zipfile.ZipFile(os.path.join(folder, "deflated.pth")) as archive:
    crc = archive.getinfo("another name/data.pkl").CRC
with open(os.path.join(folder, "deflated.pth"), "rb") as old, open(os.path.join(folder, "refused_crc.pth"), "wb") as new:
    new.write(old.read().replace(crc.to_bytes(4, "little"), (crc ^ 1).to_bytes(4, "little")))
rezipped("net.pth", "refused_big_endian.pth", zipfile.ZIP_STORED,
         lambda name, data: b"big" if name.endswith("byteorder") else data)
rezipped("net.pth", "refused_big_endian_deflated.pth", zipfile.ZIP_DEFLATED,
         lambda name, data: b"big" if name.endswith("byteorder") else data)
rezipped("net.pth", "refused_long_order.pth", zipfile.ZIP_DEFLATED,
         lambda name, data: b"little" * 1000 if name.endswith("byteorder") else data)
rezipped("net.pth", "refused_short.pth", zipfile.ZIP_STORED,
         lambda name, data: data[:-4] if name.endswith("data/0") else data)
save("refused_old.pth", net.state_dict(), _use_new_zipfile_serialization=False)
save("refused_module.pth", net)
save("refused_evil.pth", {"w": torch.ones(1), "x": Evil()})
save("refused_quantized.pth", {"q": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)})
save("refused_sparse.pth", {"s": torch.eye(2).to_sparse()})
save("refused_meta.pth", {"m": torch.empty(2, device="meta")})
save("refused_class.pth", {"t": torch.ones(1).as_subclass(Special)})
save("refused_numpy.pth", {"n": torch.ones(1).numpy()})
torch.jit.script(nn.Linear(2, 2)).save(os.path.join(folder, "refused_script.pt"))
with open(os.path.join(folder, "refused_pickle.pth"), "wb") as file:
    pickle.dump({"a": 1}, file)
torch.serialization.set_crc32_options(False)
torch.save(net.state_dict(), os.path.join(folder, "no_crc.pth"))
