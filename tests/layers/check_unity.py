#!/usr/bin/env python3
"""Finds names that two sources define in their unnamed namespaces and may not: check_unity.py FOLDER.

The library is a unity build: several sources are compiled as one. Two definitions of one name in one namespace then
clash, unless they are functions with different parameters. Which sources share a unit changes with every new source, so
no two of all sources may clash. So it is with the tests that share a program; there no two may have one name at all,
since they also call helpers of tests/support, which an unnamed namespace's hide. Nor may a source name something there as a
type of a header is called that another source of its unit includes: whoever says the name then means two things.

The script reads sources as clang-format writes them: definitions in a namespace begin at the beginning of a line, the
rest of them is indented, and a namespace ends with "}  // namespace". Each clash is one line on stderr.
"""
import re
import sys
from collections import defaultdict
from pathlib import Path

LAYERS = "base modules runtime actors launch".split()
# Where tests/CMakeLists.txt names the folders whose tests share a program.
PROGRAMS = re.compile(r"foreach\(_folder IN ITEMS ([^)]*)\)")
ALONE = re.compile(r'set\(_alone "([^"]*)"\)')
OPENING = re.compile(r"(?:inline )?namespace(?: ([\w:]+))? \{")
# May be there twice, as long as both mean the same.
HARMLESS = re.compile(r"using |namespace |static_assert|extern |[A-Z_]+\(|template (?!<)")
TYPE = re.compile(r"(?:enum class|enum|struct|class|union) (?:alignas\(\w+\) )?(\w+)( final)?( : [^;]*)? ?[{;]")
FUNCTION = re.compile(r"(?:[\w:<>,*&\s\[\]]|\.\.\.)*?[\s*&](\w+|operator\S+)\((?!\")")
VARIABLE = re.compile(r"(?:[\w:<>,*&\s]|\.\.\.)*?[\s*&](\w+)(?:\[[^\]]*\])?(?: = | ?\{|;|\()")
NOT_A_NAME = set("const unsigned signed long short int double float char bool auto void".split())


def definitions(text, unnamed=True):
    """(namespace, line's number, text up to the body) of what begins at the beginning of a line in an unnamed one, or in those
    with names."""
    raw, scopes, last = text.splitlines(), [], ""
    lines = [re.sub(r"(^|\s+)//.*", "", line) for line in raw]
    for number, line in enumerate(lines):
        opening = OPENING.fullmatch(line)
        if opening:
            scopes.append(opening[1] or "")
        elif raw[number].startswith("}  // namespace") or (not unnamed and line == "}" and last.endswith(";")):
            scopes.pop()  # the latter in a header, of forward declarations
        elif ("" in scopes) == unnamed and scopes and line and line[0] not in " #}" and not lines[number - 1].startswith(("template", "requires")):
            statement = ""
            for more in lines[number:]:
                statement += more.strip() + " "
                if statement.count("(") == statement.count(")") and re.search("[{;]", statement):
                    break
            yield "::".join(scopes), number + 1, statement.strip()
        if line and line[0] != " ":
            last = line


def without_prefix(statement):
    """Without template parameters, attributes and what says nothing about the name."""
    if statement.startswith("template <"):
        depth = 0
        for at, letter in enumerate(statement):
            depth += (letter == "<") - (letter == ">")
            if letter == ">" and depth == 0:
                statement = statement[at + 1 :].strip()
                break
    statement = re.sub(r"^requires .*?\)? (?=\w+ \w+\()", "", statement)
    return re.sub(r"^(\[\[\w+\]\] |inline |static |thread_local |constexpr )*", "", statement)


def type_of(parameter):
    """A parameter without its name, its default, and a const that says nothing to the caller."""
    parameter = re.sub(r"\s*=.*", "", parameter)
    words = re.fullmatch(r"(.*[\s*&>])(\w+)(\[\d*\])?", parameter)
    if words and words[2] not in NOT_A_NAME and words[1].strip() != "const":
        parameter = words[1]
    return re.sub(r"\s+", " ", re.sub(r"^const (\w[\w:]*)$", r"\1", parameter.strip()))


def parameters_at(text, start):
    """The types between the parenthesis before `start` and the one that closes it, and what follows that."""
    depth, parts = 1, [""]
    for end, letter in enumerate(text[start:], start + 1):
        depth += (letter in "(<[{") - (letter in ")>]}")
        if depth == 0:
            break
        if letter == "," and depth == 1:
            parts.append("")
        else:
            parts[-1] += letter
    return tuple(type_of(part.strip()) for part in parts if part.strip()), text[end:]


def defined(statement):
    """(name, types of a function's parameters, else None); nothing for what may be there twice, a member for example."""
    statement = without_prefix(statement)
    if HARMLESS.match(statement):
        return None
    found = TYPE.match(statement)
    if found:
        return found[1], None
    function, variable = FUNCTION.match(" " + statement), VARIABLE.match(" " + statement)
    if function and not (variable and variable.end() < function.end()):
        types, rest = parameters_at(" " + statement, function.end())
        # What ends here is declared, and defined further down.
        return (function[1], types) if re.match("[^;]*[{]", rest) else None
    return (variable[1], None) if variable else None


def clashes(root, sources, by_name=False):
    """Of two functions with other parameters only if `by_name`."""
    places = defaultdict(list)
    for path in sorted(sources):
        for scope, line, statement in definitions(path.read_text()):
            alias = re.match(r"using (\w+) = (.*)", statement)
            found = (alias[1], alias[2]) if alias else defined(statement)
            if found:
                places[scope, found[0]].append((path.relative_to(root), line, found[1]))
    for (_, name), found in sorted(places.items()):
        for at, (path, line, parameters) in enumerate(found):
            for other, other_line, others in found[:at]:
                if isinstance(parameters, str) and parameters == others:
                    continue  # the same alias
                kinds = {type(parameters), type(others)}
                if other != path and (by_name or kinds != {tuple} or parameters == others):
                    yield f"{path}:{line}: {name} is in the unnamed namespace of {other}:{other_line} too"


def types_of(root, folders):
    """(namespace, name) of each type that a header defines, and the header."""
    types = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.hpp")):
            for scope, _, statement in definitions(path.read_text(), unnamed=False):
                found = TYPE.match(without_prefix(statement))
                if found and not statement.endswith(found[1] + ";"):
                    types[scope, found[1]] = path.relative_to(root)
    return types


def called_as_types(root, sources, types):
    for path in sorted(sources):
        for scope, line, statement in definitions(path.read_text()):
            alias = re.match(r"using (\w+) = ", statement)
            found = alias[1] if alias else (defined(statement) or [None])[0]
            header = types.get((scope.removesuffix("::"), found))
            if header and not (alias and re.search(rf"\b{found};", statement)):
                yield f"{path.relative_to(root)}:{line}: {found} is a type of {header} too"


def all_clashes(root):
    sources = [path for layer in LAYERS for path in (root / layer).rglob("*.cpp")]
    yield from clashes(root, sources)
    types = types_of(root, LAYERS)
    yield from called_as_types(root, sources, types)
    types |= types_of(root, ["tests/support"])
    lists = (root / "tests/CMakeLists.txt").read_text()
    alone = re.compile(ALONE.search(lists)[1])
    taken = set()  # by a program of a folder within
    for program in PROGRAMS.search(lists)[1].split():
        tests = {path for path in (root / "tests" / program).rglob("*_test.cpp") if not alone.search(str(path))} - taken
        taken |= tests
        yield from clashes(root, tests, by_name=True)
        yield from called_as_types(root, tests, types)


if __name__ == "__main__":
    problems = list(all_clashes(Path(sys.argv[1]).resolve()))
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)
