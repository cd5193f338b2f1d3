"""50 steps of PyTorch's optimizers on a small perceptron: optimizers.py FILE

Inputs "x" [50, 16, 6] and "y" [50, 16, 3], initial weights "start.<parameter>"; for each case and type
"<case>.<float64|float32>.losses" [50] and "<case>.<type>.<parameter>". For Muon's matrices "matrix.<rows>x<columns>", and
"muon_matrices.<number>" after three steps.
"""
import torch
from torch.nn.functional import mse_loss

from common import STEPS, TYPES, Reference

O = torch.optim
reference = Reference(7)
x, y = reference.randn("x", STEPS, 16, 6), reference.randn("y", STEPS, 16, 3)


def groups(parameters):
    parameters = list(parameters)
    return [{"params": parameters[:2], "lr": 0.02}, {"params": parameters[2:]}]


class Lion(O.Optimizer):
    """Algorithm 2 of the paper (Chen et al. 2023, arXiv 2302.06675), of which PyTorch has no class."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                c = beta1 * m + (1 - beta1) * p.grad
                p.sub_(group["lr"] * (c.sign() + group["weight_decay"] * p))
                self.state[p]["exp_avg"] = beta2 * m + (1 - beta2) * p.grad
        return loss


class ScheduleFreeAdamW(O.Optimizer):
    """Defazio et al. 2024 (arXiv 2405.15682), Algorithm 1 and its section on implementation, with the weights of the
    average that facebookresearch/schedule_free has."""

    def __init__(self, params, lr=0.0025, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0,
                 weight_lr_power=2.0):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power})

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for g in self.param_groups:
            beta1, beta2 = g["betas"]
            t = g["t"] = g.get("t", 0) + 1
            lr = g["lr"] * min(1, t / max(1, g["warmup_steps"]))
            g["largest"] = max(g.get("largest", 0), lr)
            weight = t ** g["r"] * g["largest"] ** g["weight_lr_power"]
            g["sum"] = g.get("sum", 0) + weight
            c = weight / g["sum"]
            for y in g["params"]:
                s = self.state[y]
                if not s:
                    s.update(x=y.clone(), z=y.clone(), v=torch.zeros_like(y))
                s["v"] = beta2 * s["v"] + (1 - beta2) * y.grad ** 2
                direction = y.grad / ((s["v"] / (1 - beta2 ** t)).sqrt() + g["eps"]) + g["weight_decay"] * y
                s["z"] = s["z"] - lr * direction
                s["x"] = (1 - c) * s["x"] + c * s["z"]
                y.copy_((1 - beta1) * s["z"] + beta1 * s["x"])
        return loss

    @torch.no_grad()
    def eval(self):
        for y, s in self.state.items():
            y.copy_(s["x"])


class Together:
    """Several optimizers as one."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self, closure):
        loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


def muon(p, adamw, **options):
    p = list(p)
    return Together(O.Muon([x for x in p if x.ndim == 2], **options),
                    O.AdamW([x for x in p if x.ndim != 2], fused=True, **adamw))


def muon_but_last(p):
    p = list(p)
    return Together(O.Muon(p[:1], 0.02), O.AdamW(p[1:], 0.003, weight_decay=0.01, fused=True))


CASES = {
    "sgd": lambda p: O.SGD(p, 0.1),
    "sgd_momentum": lambda p: O.SGD(p, 0.05, 0.9, dampening=0.1, weight_decay=0.01),
    "sgd_nesterov": lambda p: O.SGD(p, 0.05, 0.9, nesterov=True),
    "sgd_maximize": lambda p: O.SGD(p, 0.001, maximize=True),
    "adam": lambda p: O.Adam(p, 0.01, weight_decay=0.1),
    "adam_amsgrad": lambda p: O.Adam(p, 0.01, (0.8, 0.95), amsgrad=True),
    "adam_groups": lambda p: O.Adam(groups(p), 0.005),
    "adam_maximize": lambda p: O.Adam(p, 0.001, maximize=True),
    "adamw": lambda p: O.AdamW(p, 0.01),
    "adamw_groups": lambda p: O.AdamW(groups(p), 0.005, amsgrad=True),
    "adagrad": lambda p: O.Adagrad(p, 0.05, lr_decay=0.01, weight_decay=0.01, initial_accumulator_value=0.1),
    "adagrad_maximize": lambda p: O.Adagrad(p, 0.005, maximize=True),
    "rmsprop": lambda p: O.RMSprop(p, 0.005),
    "rmsprop_full": lambda p: O.RMSprop(p, 0.002, 0.9, momentum=0.8, centered=True, weight_decay=0.01),
    "rmsprop_maximize": lambda p: O.RMSprop(p, 0.0005, maximize=True),
    "adamax": lambda p: O.Adamax(p, 0.01),
    "adamax_full": lambda p: O.Adamax(groups(p), 0.005, (0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adamax_maximize": lambda p: O.Adamax(p, 0.001, maximize=True),
    "nadam": lambda p: O.NAdam(p, 0.01),
    "nadam_full": lambda p: O.NAdam(groups(p), 0.005, (0.8, 0.95), eps=1e-6, weight_decay=0.1, momentum_decay=0.01),
    "nadam_decoupled": lambda p: O.NAdam(p, 0.001, weight_decay=0.1, decoupled_weight_decay=True, maximize=True),
    "radam": lambda p: O.RAdam(p, 0.01),
    "radam_full": lambda p: O.RAdam(groups(p), 0.005, (0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "radam_decoupled": lambda p: O.RAdam(p, 0.001, weight_decay=0.1, decoupled_weight_decay=True, maximize=True),
    "adadelta": lambda p: O.Adadelta(p),
    "adadelta_full": lambda p: O.Adadelta(groups(p), 2, rho=0.8, eps=1e-5, weight_decay=0.1),
    "adadelta_maximize": lambda p: O.Adadelta(p, 0.1, maximize=True),
    "asgd": lambda p: O.ASGD(p, 0.05),
    "asgd_full": lambda p: O.ASGD(groups(p), 0.05, lambd=0.01, alpha=0.6, t0=10, weight_decay=0.1),
    "asgd_maximize": lambda p: O.ASGD(p, 0.001, maximize=True),
    "rprop": lambda p: O.Rprop(p, 0.01),
    "rprop_full": lambda p: O.Rprop(groups(p), 0.005, etas=(0.4, 1.3), step_sizes=(1e-4, 0.02)),
    "rprop_maximize": lambda p: O.Rprop(p, 0.001, step_sizes=(1e-6, 1e-2), maximize=True),
    "lion": lambda p: Lion(p, 0.003),
    "lion_full": lambda p: Lion(groups(p), 0.002, (0.8, 0.95), weight_decay=0.1),
    "adafactor": lambda p: O.Adafactor(p, 0.05),
    "adafactor_full": lambda p: O.Adafactor(groups(p), 0.1, beta2_decay=-0.6, eps=(None, 1e-2), d=1.5, weight_decay=0.1),
    "adafactor_maximize": lambda p: O.Adafactor(p, 0.001, maximize=True),
    "muon": lambda p: muon(p, {"lr": 0.01, "weight_decay": 0.1}, lr=0.01),
    "muon_rms": lambda p: muon(p, {"lr": 0.002, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0}, lr=0.02,
                               momentum=0.8, nesterov=False, ns_steps=4, weight_decay=0.01,
                               adjust_lr_fn="match_rms_adamw"),
    "muon_but_last": muon_but_last,
    "schedule_free": lambda p: ScheduleFreeAdamW(p, 0.01),
    "schedule_free_full": lambda p: ScheduleFreeAdamW(groups(p), 0.01, (0.8, 0.95), eps=1e-6, weight_decay=0.1,
                                                      warmup_steps=10, r=1, weight_lr_power=1),
    "schedule_free_eval": lambda p: ScheduleFreeAdamW(p, 0.01, warmup_steps=5),
    "lbfgs": lambda p: O.LBFGS(p, 0.3, max_iter=4, history_size=6),
    "lbfgs_wolfe": lambda p: O.LBFGS(p, 1, max_iter=5, line_search_fn="strong_wolfe"),
}

for name, make in CASES.items():
    for type_name, dtype in TYPES.items():
        model = reference.model(dtype)
        optimizer = make(model.parameters())
        losses = []
        for i in range(STEPS):
            # LBFGS takes the noise of changing batches for curvature, and float32's rounding with it.
            inputs, targets = (data[0 if name.startswith("lbfgs") else i].to(dtype) for data in (x, y))

            def closure():
                optimizer.zero_grad()
                loss = mse_loss(model(inputs), targets)
                loss.backward()
                return loss
            losses.append(optimizer.step(closure))
        if name.endswith("_eval"):
            optimizer.eval()
        reference.add_run(f"{name}.{type_name}", losses, model)

# Several matrices of a shape for Muon: the count, rows, columns. The gradient depends on the step before.
MATRICES = ((3, 24, 40), (2, 40, 24), (2, 17, 17), (5, 330, 320), (1, 530, 520))
matrices, targets = [], []
for count, *shape in MATRICES:
    base = reference.randn("matrix.{}x{}".format(*shape), *shape)
    matrices += [torch.nn.Parameter(base.roll(i, 0)) for i in range(count)]
    targets += [base.roll(-1 - i, 1) for i in range(count)]
optimizer = O.Muon(matrices, 0.02)
for _ in range(3):
    for matrix, target in zip(matrices, targets):
        matrix.grad = matrix.detach() - target
    optimizer.step()
reference.tensors.update({f"muon_matrices.{i}": matrix.detach() for i, matrix in enumerate(matrices)})
reference.save()
