"""The tables of docs/gpu.md, of what the kit has measured."""
import plan

BEGIN = "<!-- tables of tests/gpu/kit -->"
END = "<!-- end of the tables -->"


def shown(value):
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def first_numbers(record):
    """What a cell shows: a step's time, or what the program says first."""
    return ", ".join(shown(value) if name == "us" else f"{name} {shown(value)}" for name, value in record["numbers"][:2])


class Reasons:
    """Why something was skipped: a cell has the number of the reason, which stands below the tables."""

    def __init__(self):
        self.all = []

    def skipped(self, why):
        if why not in self.all:
            self.all.append(why)
        return f"skipped ({self.all.index(why) + 1})"

    def text(self):
        return "".join(f"{number}. {why}\n" for number, why in enumerate(self.all, 1))


def cell(record, reasons):
    if record is None:
        return ""
    if record["status"] == "skipped":
        return reasons.skipped(record["why"])
    if record["status"] == "failed":
        return "**failed**: " + record["why"]
    parts = [first_numbers(record)] if record.get("numbers") else []
    if record["table"] in ("examples", "programs"):
        parts.append(f"{record['seconds']:.1f} s")
    return "; ".join(parts) or "passed"


def rows_of_tests(records, reasons):
    yield ("test", "case", "result")
    for record in records:
        if record["status"] != "passed":
            yield record["row"], "", cell(record, reasons)
        for name, result, seconds in record.get("cases", ()):
            if result.startswith("skipped: "):
                yield record["row"], name, reasons.skipped(result[len("skipped: "):])
            else:
                yield record["row"], name, f"{'**failed**' if result == 'failed' else result}, {seconds:.2g} s"


def rows_of(name, records, reasons):
    """Rows and columns in the order of the plan; only those of which something is known."""
    if name == "tests":
        yield from rows_of_tests(records, reasons)
        return
    columns = list(dict.fromkeys(item.column for item in plan.ITEMS if item.table == name))
    names = list(dict.fromkeys(item.row for item in plan.ITEMS if item.table == name))
    known = {(record["row"], record["column"]): record for record in records}
    columns = [column for column in columns if any((row, column) in known for row in names)]
    yield ("", *(column or "result" for column in columns))
    for row in names:
        if any((row, column) in known for column in columns):
            yield (row, *(cell(known.get((row, column)), reasons) for column in columns))


def markdown_table(rows):
    first, *others = list(rows)
    lines = ["| " + " | ".join(first) + " |", "|" + "---|" * len(first)]
    return "\n".join(lines + ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in others]) + "\n"


def about(machine):
    gpu = "; ".join(machine["gpus"]) if machine["gpus"] else "none, since " + machine["no_gpu"]
    return (f"GPU: {gpu}. CPU: {machine['cpu']}, {machine['cores']} cores, load {machine['load']} at the start; Linux "
            f"{machine['kernel']}. PyTorch {machine['torch']}, Troupe {machine['troupe']} ({machine['revision']}). "
            f"{machine['date']}.\n")


def markdown(machine, records):
    parts, reasons = [BEGIN + "\n", about(machine)], Reasons()
    for table in plan.TABLES:
        own = [record for record in records if record["table"] == table.name]
        if own:
            parts += [f"### {table.title}\n", " ".join(table.about.split()) + "\n", markdown_table(rows_of(table.name, own, reasons))]
    if reasons.all:
        parts += ["### Skipped\n", reasons.text()]
    return "\n".join([*parts, END]) + "\n"
