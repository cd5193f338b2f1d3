"""SVG plots, small and without fonts or scripts. They have no background, and their colors follow the reader's scheme."""
import math

STYLE = """<style>
text{font:12px system-ui,sans-serif;fill:#24292f}.f{fill:#57606a}.o{fill:#0969da}.p{fill:#8c959f}
.g{stroke:#8c959f;stroke-opacity:.35}.w{stroke:#24292f}.l{fill:none;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#9198a1}.o{fill:#4493f8}.p{fill:#768390}.w{stroke:#e6edf3}}
</style>"""
WIDTH, LEFT, RIGHT, ROW = 720, 230, 90, 17
COLORS = ("#0969da", "#bf8700", "#1a7f37", "#cf222e")


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def svg(height, label, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{escaped(label)}">\n{STYLE}\n' + "\n".join(parts) + "\n</svg>\n")


class Scale:
    """From numbers to a place between `start` and `end`: logarithmic if they span more than a factor of 20."""

    def __init__(self, numbers, start, end, is_log=None):
        numbers = [number for number in numbers if number > 0] or [1]  # a difference within the noise has no length
        least, most = min(numbers), max(numbers)
        self.is_log = most / least > 20 if is_log is None else is_log
        self.low = least / 1.5 if self.is_log else 0
        self.high, self.start, self.end = most, start, end

    def __call__(self, value):
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = max(value, 0) / self.high
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self):
        if not self.is_log:
            step = 10 ** math.floor(math.log10(self.high))
            step = next(s for s in (step / 5, step / 2, step, 2 * step) if self.high / s <= 8)
            return [i * step for i in range(int(self.high / step) + 1)]
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0 ** power for power in range(first, last + 1)]


def bars(results, measure):
    """A group of bars for each case; whiskers are the quartiles."""
    from harness.results import number, spread  # which needs nothing of this module
    contenders = [who for who in results.contenders(measure.key) if results.benchmark.contenders[who].is_plotted]
    groups = [(case, [(who, results.values[case, who, measure.key]) for who in contenders
                      if (case, who, measure.key) in results.values]) for case in results.cases]
    groups = [(case, found) for case, found in groups if found]
    scale = Scale([spread(values).median for _, found in groups for _, values in found], LEFT, WIDTH - RIGHT)
    height = sum(ROW * len(found) + 26 for _, found in groups) + 24
    parts = [f'<path class="g" d="M{scale(tick)} 4V{height - 22}"/><text class="f" x="{scale(tick)}" y="{height - 8}" '
             f'text-anchor="middle">{tick:,.6g}</text>' for tick in scale.ticks()]
    parts.append(f'<text class="f" x="{WIDTH - 4}" y="{height - 8}" text-anchor="end">{escaped(measure.unit)}</text>')
    y = 16
    for case, found in groups:
        parts.append(f'<text x="4" y="{y}" font-weight="600">{escaped(case)}</text>')
        y += 6
        for who, values in found:
            one, sorted_values = spread(values), sorted(values)
            low, high = sorted_values[len(values) // 4], sorted_values[-1 - len(values) // 4]
            kind = "o" if results.benchmark.contenders[who].is_ours else "p"
            end, middle = scale(one.median), y + ROW // 2
            parts.append(
                f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escaped(results.benchmark.contenders[who].label)}'
                f'</text><path class="{kind}" d="M{LEFT} {y + 2}H{end}V{y + ROW - 2}H{LEFT}z"/>'
                f'<path class="w" d="M{scale(low)} {middle}H{scale(high)}"/>'
                f'<text x="{max(end, scale(high)) + 6}" y="{middle + 4}">{number(one.median)}</text>')
            y += ROW
        y += 20
    return svg(height, f"{results.benchmark.title}: {measure.title}", parts)


def lines(results, measure):
    """A line for each series of a growth, on two logarithmic axes, beside one of slope 1."""
    growth = {series: [(count, one.median) for count, one, _ in points if one.median > 0]
              for series, points in results.growth().items()}
    growth = {series: points for series, points in growth.items() if len(points) > 1}
    if not growth:
        return ""
    height, bottom = 330, 296
    x = Scale([count for points in growth.values() for count, _ in points], 60, WIDTH - 170, is_log=True)
    y = Scale([value for points in growth.values() for _, value in points], bottom, 14, is_log=True)
    parts = [f'<path class="g" d="M{x(tick)} 10V{bottom}"/><text class="f" x="{x(tick)}" y="{bottom + 16}" '
             f'text-anchor="middle">{tick:,.6g}</text>' for tick in x.ticks()]
    parts += [f'<path class="g" d="M60 {y(tick)}H{WIDTH - 170}"/><text class="f" x="54" y="{y(tick) + 4}" '
              f'text-anchor="end">{tick:,.6g}</text>' for tick in y.ticks()]
    parts.append(f'<text class="f" x="4" y="10">{escaped(measure.unit)}</text>')
    parts.append(f'<text class="f" x="{(60 + WIDTH - 170) // 2}" y="{height - 4}" text-anchor="middle">number</text>')
    left, low = x.low, y.low
    reach = min(x.high / left, y.high / low)
    parts.append(f'<path class="w l" stroke-dasharray="3 4" stroke-opacity=".5" d="M{x(left)} {y(low)}L{x(left * reach)} '
                 f'{y(low * reach)}"/><text class="f" x="{x(left * reach) - 4}" y="{y(low * reach) + 14}" '
                 f'text-anchor="end">linear</text>')
    for at, (series, points) in enumerate(growth.items()):
        color, path = COLORS[at % len(COLORS)], "L".join(f"{x(count)} {y(value)}" for count, value in points)
        parts.append(f'<path class="l" stroke="{color}" d="M{path}"/>' + "".join(
            f'<circle cx="{x(count)}" cy="{y(value)}" r="3.5" fill="{color}"/>' for count, value in points))
        parts.append(f'<path stroke="{color}" stroke-width="3" d="M{WIDTH - 156} {30 + 20 * at}h18"/>'
                     f'<text x="{WIDTH - 132}" y="{34 + 20 * at}">{escaped(series)}</text>')
    return svg(height, results.benchmark.title, parts)


def plot(results, measure):
    return lines(results, measure) if results.benchmark.growth else bars(results, measure)
