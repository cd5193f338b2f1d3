"""Figures that README and docs quote. Each stands before a marker that says which one it is:

    trains 3.4<!-- bench: captured_step, 784-16-10 b8, bare/captured --> times as fast

A trial has "?" in their place. docs/benchmarks.md ends with the list of all that there are. bench/run --page writes the figures in, and a test finds those
that differ.
"""
import re
from pathlib import Path

PAGE = "docs/benchmarks.md"
BEGIN, END = "<!-- figures that other pages may quote\n", "-->"
QUOTE = re.compile(r"([\d.,]*\d|\?)(<!-- bench: ([^>]*?) -->)")
MARKER = re.compile(r"<!-- bench: ")


def listed(figures):
    """The end of the page."""
    return BEGIN + "".join(f"{name}: {text}\n" for name, text in sorted(figures.items())) + END + "\n"


def figures_of(page):
    """What the page lists."""
    if BEGIN not in page:
        return {}
    lines = page[page.rindex(BEGIN) + len(BEGIN):].split(END)[0].splitlines()
    return dict(line.rsplit(": ", 1) for line in lines)


def pages(root):
    root = Path(root)
    return [path for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))] if path != root / PAGE]


def rewrite(root, figures):
    """Puts the figures into the pages that quote them. Returns a sentence for each that there is not."""
    problems = []
    for path in pages(root):
        text = path.read_text(encoding="utf-8")

        def put(match):
            if match[3] not in figures:
                problems.append(f"{path.relative_to(root)} quotes '{match[3]}', which was not measured")
                return match[0]
            return figures[match[3]] + match[2]
        new = QUOTE.sub(put, text)
        if new != text:
            path.write_text(new, encoding="utf-8")
    return problems


def check(root):
    """What is wrong with the figures that pages quote, a line each: FILE:LINE: WHAT."""
    page = Path(root) / PAGE
    figures = figures_of(page.read_text(encoding="utf-8")) if page.exists() else {}
    problems = []
    for path in pages(root):
        for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where, quotes = f"{path.relative_to(root)}:{at}", list(QUOTE.finditer(line))
            if len(quotes) != len(MARKER.findall(line)):
                problems.append(f"{where}: a marker of a figure has none before it, or does not end in this line")
            for quote in quotes:
                if quote[3] not in figures:
                    problems.append(f"{where}: {PAGE} has no figure '{quote[3]}'")
                elif quote[1] != figures[quote[3]]:
                    problems.append(f"{where}: '{quote[3]}' is {figures[quote[3]]} in {PAGE}, not {quote[1]}")
    return problems
