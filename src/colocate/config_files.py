"""The YAML files that a config was merged from: what is wrong with one as YAML, and where a key stands in them.

YAML itself takes a key twice and silently keeps the last; here that is an error. Light: the workflow is parsed on
every start.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from colocate.errors import InputError

MERGE = "<<"


def check(files: Iterable[str | Path]) -> None:
    """InputError with file and line where a file is no YAML, no mapping at its top, or gives a key twice."""
    for file in files:
        if problem := problem_of(file):
            raise InputError(problem)


def digest(file: str | Path) -> str:
    """sha256 of the values of a file, whatever the order of its keys, its comments and its layout."""
    values = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def problem_of(file: str | Path) -> str:
    """What is wrong with one file, with its line and what to do; "" where nothing is."""
    try:
        root = _compose(file)
    except OSError as error:
        return f"{_shown(file)}: {error.strerror or error}; name a config file that is there"
    except UnicodeDecodeError as error:
        return f"{_shown(file)}: not UTF-8 (byte {error.start}); save it as UTF-8"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or "cannot be read"
        hint = (
            "indent with spaces, not with tabs"
            if "\\t" in said
            else "look there and one line above for a missing colon, quote or bracket, or for another indentation"
        )
        return f"{_shown(file)}{line}: not YAML: {said}; {hint}"
    if root is None:
        return ""
    if not isinstance(root, yaml.MappingNode):
        return (
            f"{_shown(file)}:1: found {_kind(root)} at the top level; allowed: keys with values, such as `seeds: [0]`"
        )
    return _doubled(root, file, ())


def place(key: str, files: Iterable[str | Path]) -> str:
    """ "file:line" of the innermost part of a key's path ("arms.random.lora", "pairs.made[0].n") that a file holds.

    Of several files that hold as much of it the last counts, whose value wins in the merge; "" where none has any.
    """
    best, found = 0, ""
    for file in files:
        try:
            node, depth, rest = _compose(file), 0, key
        except (OSError, ValueError, yaml.YAMLError):
            continue
        line = None
        while rest:
            step = _step(node, rest)
            if step is None:
                break
            mark, node, rest = step
            line, depth = mark.line + 1, depth + 1
        if line is not None and depth >= best:
            best, found = depth, f"{_shown(file)}:{line}"
    return found


def _step(node, rest: str):
    """One step down the path: (mark of the key, its value, what is left of the path), or None."""
    rest = rest.lstrip(".")
    if isinstance(node, yaml.SequenceNode):
        number, _, left = rest.lstrip("[").replace("]", ".", 1).partition(".")
        if number.isdigit() and int(number) < len(node.value):
            return node.value[int(number)].start_mark, node.value[int(number)], left
    if isinstance(node, yaml.MappingNode):
        for name, value in sorted(node.value, key=lambda item: -len(str(item[0].value))):  # names may hold dots
            text = str(name.value)
            if rest == text or rest.startswith((text + ".", text + "[")):
                return name.start_mark, value, rest[len(text) :]
    return None


def _doubled(node, file, path: tuple) -> str:
    if isinstance(node, yaml.SequenceNode):
        each = (_doubled(one, file, (*path, str(number))) for number, one in enumerate(node.value))
        return next((found for found in each if found), "")
    if not isinstance(node, yaml.MappingNode):
        return ""
    lines: dict[str, int] = {}
    for name, value in node.value:
        key, line = str(name.value), name.start_mark.line + 1
        if key in lines and key != MERGE:
            where = ".".join((*path, key))
            return f"{_shown(file)}:{line}: key {where} is there twice, first in line {lines[key]}; merge the two"
        lines[key] = line
        if found := _doubled(value, file, (*path, key)):
            return found
    return ""


def _compose(file: str | Path):
    return yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)


def _kind(node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else f"{node.value!r}"


def _shown(file: str | Path) -> str:
    """The path as a person would type it from the current folder."""
    try:
        return str(Path(file).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(file)
