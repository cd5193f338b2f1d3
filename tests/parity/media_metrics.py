"""Values of torchmetrics' metrics of retrieval, text and images: media_metrics.py FILE

Texts of a batch are bytes with an ASCII record separator after each; the targets of a text have tabs between them.
"""
import random
import sys
import types

import torch
import torchmetrics as tm
from torchmetrics.image.fid import FrechetInceptionDistance
import torchmetrics.text

from metric_cases import SIZES, double, fresh, keep, out, run, save, tied

random.seed(5)

# --- Retrieval ---


def keep_queries(data, make):
    batches = []
    for i, n in enumerate(SIZES):
        preds, target = make(n)
        batches.append((preds, target, torch.randint(0, 6, (n,))))
        for what, tensor in zip(("preds", "target", "indexes"), batches[-1]):
            out[f"{data}.{what}.{i}"] = tensor
    return batches


def some_ignored(n):
    target = torch.randint(-1, 2, (n,))
    target[0] = 0  # torchmetrics refuses a batch of which nothing counts
    return torch.rand(n), target


def ranked(metric):
    """torchmetrics takes documents with a score of at most 0 for not relevant: all are above 0 here, in the same order."""
    value_of = fresh(metric)
    return lambda preds, target, indexes: value_of(preds - preds.min() + 1, target, indexes)


QUERIES = {
    "queries": keep_queries("queries", lambda n: (torch.rand(n), (torch.rand(n) < 0.4).long())),
    "query_logits": keep_queries("query_logits", lambda n: (torch.randn(n), torch.randint(0, 2, (n,)))),
    "query_ignored": keep_queries("query_ignored", some_ignored),
    "queries_without": keep_queries("queries_without", lambda n: (torch.rand(n), torch.zeros(n).long())),
}
GAINS = {
    "gains": keep_queries("gains", lambda n: (torch.randn(n), torch.randint(0, 4, (n,)))),
    "tied_gains": keep_queries("tied_gains", lambda n: ((3 * tied(n)).round() / 3, torch.rand(n))),
}
for data, batches in QUERIES.items():
    shared = {"ignore_index": -1 if data == "query_ignored" else None}
    for k in [None, 1, 3]:
        for action in ["neg", "pos", "skip"]:
            for name in ["MRR", "MAP", "NormalizedDCG", "Recall", "Precision", "HitRate", "FallOut"]:
                metric = getattr(tm.retrieval, f"Retrieval{name}")(action, top_k=k, **shared)
                run(f"Retrieval{name}/{data}/{k or 0},{action}", ranked(metric), batches)
    run(f"RetrievalPrecision/{data}/adaptive", ranked(tm.retrieval.RetrievalPrecision(
        top_k=3, adaptive_k=True, **shared)), batches)
    run(f"RetrievalRPrecision/{data}/", ranked(tm.retrieval.RetrievalRPrecision(**shared)), batches)
    for aggregation in ["median", "min", "max"]:
        run(f"RetrievalMRR/{data}/{aggregation}", ranked(tm.retrieval.RetrievalMRR(aggregation=aggregation, **shared)),
            batches)
for data, batches in GAINS.items():
    for k in [None, 3]:
        run(f"RetrievalNormalizedDCG/{data}/{k or 0}", ranked(tm.retrieval.RetrievalNormalizedDCG(top_k=k)), batches)

# --- Text ---

WORDS = ["the", "The", "cat", "sat", "on", "a", "mat", "straße", "über", "naïve", "100", "it's", "(end)", "end.",
         "日本", "don't", "x", "!"]


def sentence():
    return " ".join(random.choices(WORDS, k=random.randint(1, 9)))


def changed(text):
    words = [random.choice(WORDS) if random.random() < 0.25 else w for w in text.split() if random.random() < 0.9]
    return random.choice(["  ", " ", "\u00a0"]).join(words)


def keep_texts(data, targets, lines=1):
    batches = []
    for i, n in enumerate(SIZES):
        preds = ["\n".join(sentence() for _ in range(lines)) for _ in range(n)]
        references = [["\n".join(map(changed, text.split("\n"))) for _ in range(targets)] for text in preds]
        if n == 12:
            preds[3], references[5] = "", [""] * targets
        batches.append((preds, references))
        as_bytes = lambda lines: torch.tensor(list("".join(line + "\x1e" for line in lines).encode()), dtype=torch.uint8)
        out[f"{data}.preds.{i}"] = as_bytes(preds)
        out[f"{data}.target.{i}"] = as_bytes(["\t".join(r) for r in references])
    return batches


# nltk, whose model of sentences would have to be fetched, is not here: lines are sentences, as in Google's rouge_score.
sys.modules["nltk"] = types.ModuleType("nltk")
for part in (sys.modules["torchmetrics.functional.text.rouge"], sys.modules["torchmetrics.text.rouge"]):
    part._NLTK_AVAILABLE = True
sys.modules["torchmetrics.functional.text.rouge"]._split_sentence = lambda text: text.split("\n")


def run_texts(case, metric, batches, single=False):
    def value(preds, references):
        metric.reset()
        given = metric(preds, [r[0] for r in references] if single else references)
        return next(iter(given.values())) if isinstance(given, dict) else given

    values = [value(*batch).double() for batch in batches]
    if all(v.shape == values[0].shape for v in values):
        out[f"{case}/batches"] = torch.stack(values)
    out[f"{case}/epoch"] = value(sum((p for p, _ in batches), []), sum((r for _, r in batches), [])).double()


ONE, THREE = keep_texts("sentences", 1), keep_texts("references", 3)
for name in ["WordErrorRate", "CharErrorRate", "MatchErrorRate"]:
    run_texts(f"{name}/sentences/", getattr(tm.text, name)(), ONE, single=True)
for reduction in ["mean", "sum", "none"]:
    for cost in [1, 2]:
        run_texts(f"EditDistance/sentences/{reduction},{cost}", tm.text.EditDistance(cost, reduction), ONE, single=True)
PARAGRAPHS = keep_texts("paragraphs", 2, lines=3)


def run_rouge(data, batches, key):
    for accumulate in ["best", "avg"]:
        for which in ["fmeasure", "precision", "recall"]:
            class One(tm.text.ROUGEScore):
                def compute(self, name=f"{key}_{which}"):
                    return super().compute()[name]
            run_texts(f"ROUGEScore/{data}/{key},{accumulate},{which}", One(accumulate=accumulate, rouge_keys=key), batches)


run_rouge("paragraphs", PARAGRAPHS, "rougeLsum")
for data, batches in {"sentences": ONE, "references": THREE}.items():
    for n in [1, 2, 4]:
        for smooth in [False, True]:
            run_texts(f"BLEUScore/{data}/{n},{int(smooth)}", tm.text.BLEUScore(n, smooth), batches)
    run_texts(f"BLEUScore/{data}/weights", tm.text.BLEUScore(2, weights=[0.7, 0.3]), batches)
    for key, options in {"": {}, "words": {"n_char_order": 3, "n_word_order": 0, "beta": 1.0},
                         "all": {"lowercase": True, "whitespace": True}}.items():
        run_texts(f"CHRFScore/{data}/{key}", tm.text.CHRFScore(**options), batches)
    for key in ["rouge1", "rouge2", "rougeL", "rougeLsum"]:
        run_rouge(data, batches, key)

# --- Images ---


def images(n):
    """Each from 0 to 1, so that the range of every batch is the same."""
    x = torch.rand(n, 2, 13, 15).double()
    y = (x + 0.2 * torch.randn(n, 2, 13, 15)).clamp(0, 1)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = 0, 1
    return x, y


IMAGES = keep("images", images)
VOLUMES = keep("volumes", lambda n: (lambda x: (x, (x + 0.2 * torch.randn_like(x)).clamp(0, 1)))(
    torch.rand(n, 2, 6, 8, 7).double()))
SAME = keep("same_images", lambda n: tuple(torch.ones(n, 1, 12, 12).double() for _ in range(2)))
for data, batches in {"images": IMAGES, "same_images": SAME}.items():
    run(f"PeakSignalNoiseRatio/{data}/", double(tm.image.PeakSignalNoiseRatio(1.0)), batches)
    run(f"PeakSignalNoiseRatio/{data}/clamped", double(tm.image.PeakSignalNoiseRatio((0.2, 0.8), base=2.0)), batches)
    for reduction in ["elementwise_mean", "sum", "none"]:
        make = lambda **options: double(tm.image.StructuralSimilarityIndexMeasure(reduction=reduction, **options))
        run(f"StructuralSimilarityIndexMeasure/{data}/{reduction},one", make(data_range=1.0), batches)
        run(f"StructuralSimilarityIndexMeasure/{data}/{reduction},clamped", make(data_range=(0.1, 0.9), sigma=0.8), batches)
        run(f"StructuralSimilarityIndexMeasure/{data}/{reduction},flat",
            make(data_range=1.0, gaussian_kernel=False, kernel_size=7, k1=0.02), batches)
# torchmetrics pads the depth of a volume by kernel_size, also with a Gaussian, which is as wide with its default sigma.
for key, options in {"gaussian": {}, "clamped": {"data_range": (0.1, 0.9)},
                     "flat": {"gaussian_kernel": False, "kernel_size": 5}}.items():
    run(f"StructuralSimilarityIndexMeasure/volumes/{key}",
        double(tm.image.StructuralSimilarityIndexMeasure(**{"data_range": 1.0, **options})), VOLUMES)
run("StructuralSimilarityIndexMeasure/images/own", double(tm.image.StructuralSimilarityIndexMeasure()), IMAGES)


class Features(torch.nn.Identity):
    num_features = 4


mix = torch.randn(4, 4).double()
FEATURES = keep("features", lambda n: (torch.randn(n, 4).double(), 0.5 + torch.randn(n, 4).double() @ mix))
distance = FrechetInceptionDistance(Features())
for real, fake in FEATURES:
    distance.update(real, real=True)
    distance.update(fake, real=False)
out["FrechetInceptionDistance/features/epoch"] = distance.compute()
save()
