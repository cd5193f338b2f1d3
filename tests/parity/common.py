"""What the scripts of this folder share: the numbers that both sides start from, and the file that a script writes."""
import sys

import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
STEPS = 50
TYPES = {"float64": torch.float64, "float32": torch.float32}


def perceptron():
    return torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3))


class Reference:
    """Tensors by name. Start weights are "start.<parameter>"; what a case gives is under "<case>." """

    def __init__(self, seed, make=perceptron, prefix="start."):
        torch.manual_seed(seed)
        self.make, self.prefix, self.tensors = make, prefix, {}
        self.tensors = {prefix + k: v.clone() for k, v in make().double().state_dict().items()}

    def randn(self, name, *sizes):
        """Normal numbers in float64, kept as `name`."""
        self.tensors[name] = torch.randn(*sizes, dtype=torch.float64)
        return self.tensors[name]

    def model(self, dtype):
        model = self.make().to(dtype)
        start = {k[len(self.prefix):]: v for k, v in self.tensors.items() if k.startswith(self.prefix)}
        model.load_state_dict(start)
        return model

    def add(self, key, what, values):
        """A list of numbers or of tensors of one shape."""
        rows = [v.detach() if torch.is_tensor(v) else torch.tensor(v, dtype=torch.float64) for v in values]
        self.tensors[f"{key}.{what}"] = torch.stack(rows)

    def add_run(self, key, losses, model):
        self.add(key, "losses", losses)
        self.tensors.update({f"{key}.{k}": v.detach().clone() for k, v in model.state_dict().items()})

    def save(self):
        save_file(self.tensors, sys.argv[1])
