"""From the numbers of all rounds to medians, ratios and bars."""
import math
import statistics
from typing import NamedTuple, Optional


class Spread(NamedTuple):
    median: float
    iqr: float  # interquartile range

    def text(self):
        return f"{number(self.median)} ± {number(self.iqr, self.median)}"


class Verdict(NamedTuple):
    """One bar, for one case."""
    case: str
    ours: str
    peer: str
    measure: str
    # How many times better ours is, by rounds; of a bar with a share: ours over the peer's; of one with `most`: ours.
    ratio: Optional[Spread]
    name: str  # of the ratio, among the figures; empty: it is none
    bar: str  # empty: none
    met: Optional[bool]


def number(value, like=None):
    """Three digits, or as many decimals as another number has."""
    size = abs(value if like is None else like)
    if size == 0 or not math.isfinite(size):
        return f"{value:.0f}"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}" if decimals < 6 else f"{value:.2g}"


def spread(values):
    if len(values) == 1:
        return Spread(values[0], 0.0)
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(statistics.median(values), quartiles[2] - quartiles[0])


class Results:
    """What was measured of one benchmark."""

    def __init__(self, benchmark, measured):
        self.benchmark, self.measured = benchmark, measured
        self.values = {(c["case"], c["who"], c["measure"]): c["values"] for c in measured["cells"]}
        self.cases = list(dict.fromkeys(case for case, _, _ in self.values))

    def spread(self, case, who, measure):
        values = self.values.get((case, who, measure))
        return spread(values) if values else None

    def contenders(self, measure):
        """Those that have numbers, in the benchmark's order."""
        there = {who for _, who, key in self.values if key == measure}
        return [who for who in self.benchmark.contenders if who in there]

    def better(self, case, peers, measure):
        there = [who for who in peers if (case, who, measure.key) in self.values]
        choose = max if measure.larger_is_better else min
        return choose(there, key=lambda who: self.spread(case, who, measure.key).median, default=None)

    def ratio(self, case, ours, peer, measure):
        """Of each round: what else the machine did then met both. None if ours is a difference that noise hides."""
        our_values, peer_values = self.values[case, ours, measure.key], self.values[case, peer, measure.key]
        if min(our_values) <= 0 or min(peer_values) <= 0:
            return None
        return spread([own / other if measure.larger_is_better else other / own
                       for own, other in zip(our_values, peer_values)])

    def verdict(self, case, bar):
        measure = self.benchmark.measure(bar.measure)
        if bar.most is not None:
            ours = self.spread(case, bar.ours, measure.key)
            return ours and Verdict(case, bar.ours, bar.peer[0], measure.key, ours, "",
                                    f"at most {bar.most:g} {measure.unit}", ours.median <= bar.most)
        peer = self.better(case, bar.peer, measure)
        if peer is None or (case, bar.ours, measure.key) not in self.values:
            return None
        ratio, text, met = self.ratio(case, bar.ours, peer, measure), "", None
        name = f"{peer}/{bar.ours}"
        ours, other = (self.spread(case, who, measure.key).median for who in (bar.ours, peer))
        if bar.factor is not None:
            text = f"at least {bar.factor:g}"
            met = ratio.median >= bar.factor if ratio else ours <= other / bar.factor
        elif bar.share is not None:
            met, name = ours <= bar.share * other + bar.plus, f"{bar.ours}/{peer}"
            text = f"at most {bar.share:g}" + (f" and {bar.plus:g} {measure.unit}" if bar.plus else "")
            ratio = self.ratio(case, peer, bar.ours, measure)
        return Verdict(case, bar.ours, peer, measure.key, ratio, name, text, met)

    def verdicts(self):
        found = [self.verdict(case, bar) for case in self.cases for bar in self.benchmark.bars
                 if not bar.cases or case in bar.cases]
        return [verdict for verdict in found if verdict]

    def figures(self):
        """What other pages may quote: {"benchmark, case, contender": text}, ratios as "..., peer/ours"."""
        found = {f"{self.benchmark.name}, {case}, {who}" + ("" if key == self.benchmark.measures[0].key else f", {key}"):
                 number(spread(values).median) for (case, who, key), values in self.values.items()}
        for verdict in self.verdicts():
            suffix = "" if verdict.measure == self.benchmark.measures[0].key else f", {verdict.measure}"
            if verdict.ratio and verdict.name:
                found[f"{self.benchmark.name}, {verdict.case}, {verdict.name}{suffix}"] = number(verdict.ratio.median)
        return found

    def steepest(self):
        """(slope, series, count) of the series that may not grow faster than linearly, or None."""
        slopes = [(slope, series, count) for series, points in self.growth().items() if series in self.benchmark.growth
                  for count, _, slope in points if slope is not None]
        return max(slopes, default=None)

    def growth(self):
        """{series: [(count, Spread, slope: exponent of the growth from the point before, or None)]}."""
        found = {}
        for case in self.cases:
            series, count = case.rsplit(" ", 1)
            point = self.spread(case, next(iter(self.benchmark.contenders)), self.benchmark.measures[0].key)
            points, slope = found.setdefault(series, []), None
            if points and all(one.median > one.iqr for one in (points[-1][1], point)):
                slope = math.log(point.median / points[-1][1].median) / math.log(int(count) / points[-1][0])
            points.append((int(count), point, slope))
        return found
