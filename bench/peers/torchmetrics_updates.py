"""Updates per second of torchmetrics' metrics, for bench/run metrics; bench/metrics has the same cases and data.

    torchmetrics_updates.py checked|unchecked [STEPS]

Unchecked is validate_args=False, with which nothing is said of labels that are out of range.
"""
import statistics
import sys
import time

import torch
from torchmetrics import classification

from common import report

BATCH_SIZE, BATCHES, CLASSES, STRETCHES = 64, 64, 10, 5


def made(is_binary):
    torch.manual_seed(1)
    if is_binary:
        return [(torch.randn(BATCH_SIZE), torch.randint(2, (BATCH_SIZE,))) for _ in range(BATCHES)]
    return [(torch.randn(BATCH_SIZE, CLASSES), torch.randint(CLASSES, (BATCH_SIZE,))) for _ in range(BATCHES)]


def updates_per_second(metric, data, steps):
    rates = []
    for stretch in range(-1, STRETCHES):
        start = time.perf_counter()
        for i in range(steps):
            if i % BATCHES == 0:
                metric.reset()
            metric.update(*data[i % BATCHES])
        if stretch >= 0:
            rates.append(steps / (time.perf_counter() - start))
    return statistics.median(rates)


def main():
    checks = {"checked": True, "unchecked": False}[sys.argv[1]]
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    options = {"num_classes": CLASSES, "validate_args": checks}
    cases = {"accuracy": classification.MulticlassAccuracy(average="macro", **options),
             "F1": classification.MulticlassF1Score(average="macro", **options),
             "AUROC": classification.MulticlassAUROC(**options),
             "AUROC of yes and no": classification.BinaryAUROC(validate_args=checks),
             "IoU": classification.MulticlassJaccardIndex(**options)}
    for case, metric in cases.items():
        rate = updates_per_second(metric, made(isinstance(metric, classification.BinaryAUROC)), steps)
        report(case=case, who=sys.argv[1], updates=rate)


if __name__ == "__main__":
    main()
