#!/usr/bin/env python3
"""Finds names in the documentation and in comments that nothing in the project has: check_names.py FOLDER.

Looked at are README.md, CONTRIBUTING.md and docs/*.md, and the comments of the sources:

- paths that begin with a folder of the project ("runtime/replica/replica.hpp", "bench/overhead") exist, as they stand or
  as a source that a program is made of,
- names that end in _test are tests,
- options written as --trainer.NAME are options,
- links lead to files, and files named without a folder (`fit_script.cpp`) exist,
- the table of folders in docs/architecture.md has a row for every folder of the library's layers,
- in the documentation, names in backticks with an underscore or "::" are words of the sources, and `name = value` too,
  but for those of other projects (foreign_names.txt beside this file). CHANGELOG.md may name what was removed.

What is wrong goes to stderr, one line each, as FILE:LINE: WHAT.
"""
import re
import sys
from pathlib import Path

FOLDERS = "actors base bench cmake docs examples findings launch modules runtime tests".split()
LAYERS = "base modules runtime actors launch".split()
SOURCES = {".cpp", ".hpp", ".h", ".cu", ".py", ".sh", ".cmake", ".txt", ".in", ".toml"}
PATH = re.compile(r"(?<![\w/.<>~-])(?:%s)/[\w./-]*[\w/]" % "|".join(FOLDERS))
TEST = re.compile(r"(?<![\w/.])[a-z]\w*_test(?![\w.])")
OPTION = re.compile(r"--trainer\.([a-z_]\w*)")
QUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"[\w-]+\.(?:cpp|hpp|py|sh|md|cmake)")


def files(root):
    """The project's own files: those of its folders and of its root, nothing that is built or generated."""
    for entry in sorted(root.iterdir()):
        if entry.is_file():
            yield entry
        elif entry.name in FOLDERS:
            yield from sorted(path for path in entry.rglob("*") if path.is_file())


def comment_of(line, suffix):
    """The comment in a line of a source, else nothing. Good enough for names: a marker in a string counts too."""
    marker = "//" if suffix in {".cpp", ".hpp", ".h", ".cu"} else "#"
    return line.partition(marker)[2]


class Checker:
    def __init__(self, root):
        self.root = root
        self.problems = []
        self.texts = {}
        for path in files(root):
            try:
                self.texts[path] = path.read_text()
            except UnicodeDecodeError:
                pass  # a corpus of hostile files
        self.sources = {p: t for p, t in self.texts.items() if self.is_source(p)}
        self.words = set()
        for text in self.sources.values():
            self.words.update(re.findall(r"\w+", text))
        self.words.update(path.stem for path in self.sources)
        self.file_names = {path.name for path in self.texts}
        self.tests = {p.stem for p in self.sources if p.stem.endswith("_test")}
        # Some programs are two tests.
        self.tests |= set(re.findall(r"add_test\(NAME (\w+_test)\b", self.texts.get(root / "tests/CMakeLists.txt", "")))
        options = self.texts.get(root / "modules/options/trainer_options.hpp", "")
        self.options = set(re.findall(r"\(\s*(\w+)\s*,\s*\"", options))
        foreign = Path(__file__).parent / "foreign_names.txt"
        self.foreign = {line.split()[0] for line in foreign.read_text().splitlines() if line and line[0] != "#"}

    def is_source(self, path):
        # Scripts have no extension.
        return path.suffix in SOURCES or (path.suffix == "" and self.texts[path].startswith("#!"))

    def complain(self, path, line, what):
        self.problems.append(f"{path.relative_to(self.root)}:{line}: {what}")

    def check(self):
        for path, text in self.texts.items():
            is_page = path.suffix == ".md"
            if not is_page and path not in self.sources:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                prose = line if is_page else comment_of(line, path.suffix)
                if prose:
                    self.check_line(path, number, prose, is_page)
        self.check_folders()
        return self.problems

    def check_folders(self):
        page = self.root / "docs/architecture.md"
        if page not in self.texts:
            return
        rows = set(re.findall(r"^\| `([\w./]+)/` \|", self.texts[page], re.MULTILINE))
        folders = {path.relative_to(self.root).parent.as_posix() for path in self.sources}
        for folder in sorted(folders - rows):
            if folder.split("/")[0] in LAYERS:
                self.complain(page, 1, f"no row of a table is about {folder}/")

    def check_line(self, path, number, line, is_page):
        for match in PATH.findall(line):
            if not self.exists(match):
                self.complain(path, number, f"there is no {match}")
        for match in TEST.findall(line):
            if match not in self.tests and match not in self.words_of_code(path):
                self.complain(path, number, f"there is no test {match}")
        for match in OPTION.findall(line):
            if match not in self.options:
                self.complain(path, number, f"there is no option --trainer.{match}")
        if is_page:
            for target in LINK.findall(line):
                if "://" not in target and not (path.parent / target).exists():
                    self.complain(path, number, f"the link leads nowhere: {target}")
            if path.name == "from-lightning.md":  # the first cell has Lightning's names: check_lightning.py looks at it
                line = re.sub(r"^\| `\w+` \|", "|", line)
            for quoted in QUOTED.findall(line) if path.name != "CHANGELOG.md" else []:
                self.check_quoted(path, number, quoted)

    def words_of_code(self, path):
        """Names like is_test are no tests' names where the file itself has them in its code."""
        if path.suffix == ".md":
            return set()
        lines = self.texts[path].splitlines()
        code = "\n".join(line[: len(line) - len(comment_of(line, path.suffix))] for line in lines)
        return set(re.findall(r"\w+", code))

    def exists(self, name):
        name = name.rstrip("/")
        candidate = self.root / name
        if candidate.stem.isupper():  # NAME.sh stands for any
            return True
        return candidate.exists() or any(candidate.with_name(candidate.name + s).exists() for s in (".cpp", ".hpp", ".py", ".sh"))

    def check_quoted(self, path, number, quoted):
        if FILE.fullmatch(quoted) and quoted not in self.file_names:
            self.complain(path, number, f"there is no file {quoted}")
        head = re.fullmatch(r"([A-Za-z_][\w:.]*)(?:\(.*\)|<.*>\(.*\)|\s*=\s*\S.*)?", quoted)
        if not head:
            return
        name = head[1]
        if "_" not in name and "::" not in name:
            return
        last = re.split(r"::|\.", name.rstrip(":."))[-1]
        if last not in self.words and name not in self.foreign and not self.exists(name):
            self.complain(path, number, f"nothing is called {name}")


if __name__ == "__main__":
    found = Checker(Path(sys.argv[1]).resolve()).check()
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(1 if found else 0)
