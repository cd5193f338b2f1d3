"""50 steps of PyTorch's optimizers on a small perceptron: optimizers.py FILE

Inputs "x" [50, 16, 6] and "y" [50, 16, 3], initial weights "start.<parameter>"; for each case and type
"<case>.<float64|float32>.losses" [50] and "<case>.<type>.<parameter>".
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
        reference.add_run(f"{name}.{type_name}", losses, model)
reference.save()
