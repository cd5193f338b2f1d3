#!/usr/bin/env python3
"""Compares docs/from-lightning.md with the Lightning that is installed: check_lightning.py FOLDER [LIGHTNING].

A section of the page whose heading is in SECTIONS has a table with a row for every name that Lightning has there; its first
cell names it in backticks, its second ours, or is "none", and then the third says why. Nothing of Lightning is imported,
which would take seconds: its source is parsed. Checked are:

- every name of Lightning's has a row, and no row is about a name that Lightning does not have,
- a row without a counterpart has a reason,
- every option of our Trainer and every callback of ours is on the page, and those that rows name exist.

LIGHTNING is the folder of the package `lightning`; default: the one of the Python that runs this. What is wrong goes to stderr,
one line each.
"""
import ast
import importlib.util
import re
import sys
from pathlib import Path

# A LightningModule overrides these of torch.nn.Module, which our module has from LibTorch.
OF_TORCH = {"cpu", "cuda", "double", "float", "forward", "half", "to", "type"}
ROW = re.compile(r"^\| `(?P<there>\w+)` \| (?P<here>[^|]*) \| ?(?P<remark>[^|]*)\|$", re.MULTILINE)


class Lightning:
    """Classes of Lightning's, out of its source."""

    FILES = ("pytorch/trainer/trainer.py", "pytorch/core/module.py", "pytorch/core/hooks.py", "pytorch/core/datamodule.py",
             "pytorch/core/mixins/hparams_mixin.py", "pytorch/callbacks/callback.py",
             "fabric/utilities/device_dtype_mixin.py")

    def __init__(self, folder):
        self.folder = Path(folder)
        self.classes = {}
        for file in self.FILES:
            for node in ast.parse((self.folder / file).read_text()).body:
                if isinstance(node, ast.ClassDef):
                    self.classes[node.name] = node

    def arguments(self, name, method):
        for node in self.classes[name].body:
            if isinstance(node, ast.FunctionDef) and node.name == method:
                return {each.arg for each in node.args.args + node.args.kwonlyargs} - {"self"}
        raise SystemExit(f"check_lightning: {name} has no {method}")

    def members(self, name):
        """Public methods, properties and attributes of the class and of Lightning's classes that it is derived from; what
        torch.nn.Module has too is left out."""
        found = set()
        for node in self.classes[name].body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(target.id for target in targets if isinstance(target, ast.Name))
        for base in self.classes[name].bases:
            if isinstance(base, ast.Name) and base.id in self.classes:
                found |= self.members(base.id)
        return {each for each in found if not each.startswith("_")} - (OF_TORCH if name == "LightningModule" else set())

    def callbacks(self):
        for node in ast.parse((self.folder / "pytorch/callbacks/__init__.py").read_text()).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
                return set(ast.literal_eval(node.value))
        raise SystemExit("check_lightning: pytorch/callbacks/__init__.py has no __all__")

    def sections(self):
        """Headings of the page, and the names that the section's table is about."""
        stages = ("fit", "validate", "test", "predict")
        return {
            "Arguments of the Trainer": self.arguments("Trainer", "__init__"),
            "Arguments of fit, validate, test and predict": set().union(*(self.arguments("Trainer", s) for s in stages)),
            "Callbacks": self.callbacks(),
            "Hooks of a callback": self.members("Callback"),
            "Names of a LightningModule": self.members("LightningModule"),
            "Names of a LightningDataModule": self.members("LightningDataModule"),
            "Names of a Trainer": self.members("Trainer"),
        }


class Ours:
    """The names of options and callbacks here, and what the guide's table is about."""

    def __init__(self, root):
        options = (root / "modules/options/trainer_options.hpp").read_text()
        struct = re.search(r"^struct TrainerOptions \{$(.*?)^\};$", options, re.MULTILINE | re.DOTALL)[1]
        code = re.sub(r"//.*", "", struct)
        self.options = set(re.findall(r"(\w+)\s*=[^;=]*;", code))
        self.callbacks = set()
        for folder in ("modules/callbacks", "runtime/callbacks"):
            for header in sorted((root / folder).glob("*.hpp")):
                self.callbacks.update(re.findall(r"^class (\w+) : public (?:Callback|Monitor) \{", header.read_text(), re.MULTILINE))
        guide = (root / "docs/guide.md").read_text().partition("\n## Names there and here\n")[2]
        self.guide = {row["there"] for row in ROW.finditer(guide)}


def section(page, heading):
    return re.split(r"^## ", page.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def check(root, lightning):
    page = (root / "docs/from-lightning.md").read_text()
    ours = Ours(root)
    problems = []
    for heading, names in lightning.sections().items():
        rows = list(ROW.finditer(section(page, heading)))
        seen = [row["there"] for row in rows]
        in_guide = ours.guide if heading == "Names of a LightningModule" else set()
        for name in sorted(names - set(seen) - in_guide):
            problems.append(f"'{heading}' has no row for Lightning's {name}")
        for name in sorted(set(seen) - names):
            problems.append(f"'{heading}' has a row for {name}, which Lightning does not have")
        for name in sorted({name for name in seen if seen.count(name) > 1}):
            problems.append(f"'{heading}' has two rows for {name}")
        for row in rows:
            here, remark = row["here"].strip(), row["remark"].strip()
            if here == "none":
                if not remark:
                    problems.append(f"'{heading}' does not say why there is no {row['there']}")
                continue
            known = {"Arguments of the Trainer": ours.options, "Callbacks": ours.callbacks | {"Callback", "Monitor"}}
            for name in re.findall(r"`(\w+)`", here) if heading in known else []:
                if name not in known[heading]:
                    problems.append(f"'{heading}' names {name}, which is not ours")
    quoted = set(re.findall(r"`(\w+)`", page))
    for kind, names in (("option", ours.options), ("callback", ours.callbacks)):
        for name in sorted(names - quoted):
            problems.append(f"our {kind} {name} is not on the page")
    return problems


def main():
    if len(sys.argv) > 2:
        folder = sys.argv[2]
    else:
        found = importlib.util.find_spec("lightning")
        if found is None:
            sys.exit(f"check_lightning: {sys.executable} has no package lightning; launch/setup --dev installs it")
        folder = found.submodule_search_locations[0]
    problems = check(Path(sys.argv[1]).resolve(), Lightning(folder))
    for problem in problems:
        print(f"docs/from-lightning.md: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
