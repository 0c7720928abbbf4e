"""Find and build lm-eval task definitions without its whole index, which takes 4-10 s a process.

    a folder's name    <benchmarks_dir>/<name>/*.yaml          the built-in mini ones
    a path             .../task.yaml                           yours
    any other name     a task, group or tag of lm-eval         looked up by text (0.5 s at most), then only the folders
                                                               that define it are indexed

Each task is built by lm-eval's own factory, from its YAML with three changes: programs run in the project's sandbox
(code.py); documents are processed with a fixed state of the global random generators, since some tasks shuffle their
choices with it; and a package or file that a task needs and that is not there is named before it is half built.
"""

import functools
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from colocate import sentence_splitter
from colocate.errors import InputError

NEEDS = {  # folder of lm-eval's tasks -> (modules, what to install)
    "minerva_math": (("sympy", "math_verify", "antlr4"), "math-verify antlr4-python3-runtime==4.11.0"),
    "ifeval": (("langdetect", "immutabledict", "nltk"), "langdetect immutabledict nltk"),
}
NO_YAML = (".py", ".pyc", ".md", ".json", ".jsonl", ".csv", ".txt", ".parquet")


def is_path(name: str) -> bool:
    """Whether a task is named by the path of its YAML."""
    return name.endswith((".yaml", ".yml"))


def find(name: str, benchmarks_dir: Path | None) -> list[tuple[object, dict]]:
    """(lm-eval's entry, overrides of the groups around it) of each task behind a name; groups and tags are resolved.

    `benchmarks_dir`: where built-in tasks are; None for lm-eval's own. InputError where there is no such task.
    """
    if is_path(name):
        entry = _entry_of(Path(name))
        return _leaves(entry, _with_children(entry, _index([Path(name).parent])), {})
    if benchmarks_dir is not None:
        if not (benchmarks_dir / name).is_dir():
            found = ", ".join(sorted({path.parent.name for path in benchmarks_dir.glob("*/*.yaml")})) or "nothing"
            raise InputError(
                f"benchmarks: task {name!r} is not in {benchmarks_dir}; found {found}. For one of lm-eval's own tasks "
                "set `source` to the hub id of its data; for yours set `task` to the path of its YAML"
            )
        index = _index([benchmarks_dir / name])
    else:
        index = _with_children(name, {})
    if name not in index:
        raise InputError(f"benchmarks: no task, group or tag {name!r} in {benchmarks_dir or _root()}")
    return _leaves(index[name], index, {})


def _entry_of(path: Path):
    """lm-eval's entry of one YAML, as its index would hold it."""
    from lm_eval.tasks._index import Entry, Kind
    from lm_eval.tasks._yaml_loader import load_yaml

    if not path.is_file():
        raise InputError(f"benchmarks: task {path}: no such file")
    config = load_yaml(path.resolve(), resolve_func=False)
    kind = Kind.GROUP if isinstance(config.get("task"), list) else Kind.TASK
    name = config.get("group" if kind is Kind.GROUP else "task")
    if not isinstance(name, str):
        raise InputError(f"benchmarks: task {path}: it has no key `task`, or no `group` with a list of tasks")
    return Entry(name, kind, path.resolve(), config)


def build(entry, overrides: dict, seed: int):
    """One lm-eval task. `overrides`: keys of its YAML to replace; `seed`: of whatever is random in its documents."""
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Entry
    from lm_eval.tasks._yaml_loader import load_yaml

    from colocate.evaluation import code

    _check_needs(entry)
    _check_programs(entry)
    if entry.cfg and code.is_stock_humaneval(entry.cfg):
        config = code.in_sandbox(entry.cfg)
    else:
        try:
            config = load_yaml(entry.yaml_path, resolve_func=True)
        except ImportError as error:
            raise InputError(f"benchmarks: task {entry.name} needs a package that is not installed: {error}") from error
    config = {key: value for key, value in config.items() if key not in ("tag", "group")} | overrides
    if callable(config.get("process_docs")):
        config["process_docs"] = pinned(config["process_docs"], seed)
    return TaskFactory().build(Entry(entry.name, entry.kind, None, config), overrides=None, registry={})


def pinned(process: Callable, seed: int) -> Callable:
    """The same processing of documents, once for each data set, and always from one state of the random generators.

    Some tasks shuffle choices with the global generator or with one of their module: without this, the order would
    depend on what was drawn before, or on who filled the cache. `fresh` of the result processes anew.
    """
    done: dict[str, object] = {}

    def fresh(dataset):
        import datasets
        import numpy as np

        own = [value for value in getattr(process, "__globals__", {}).values() if isinstance(value, random.Random)]
        before = random.getstate(), np.random.get_state(), datasets.is_caching_enabled()  # noqa: NPY002
        for generator in (random, *own):
            generator.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (it is the global generator that tasks use)
        datasets.disable_caching()
        try:
            return process(dataset)
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            if before[2]:
                datasets.enable_caching()

    @functools.wraps(process)
    def run(dataset):
        key = getattr(dataset, "_fingerprint", None) or str(id(dataset))
        if key not in done:
            done[key] = fresh(dataset)
        return done[key]

    run.fresh = fresh
    return run


def _check_programs(entry) -> None:
    """A task that runs generated programs does so in the sandbox: by its metrics, or where code.py replaces them."""
    from colocate.evaluation import code

    config = entry.cfg or {}
    scorers = [str(one.get("metric")) for one in config.get("metric_list") or []]
    scorers += [str(config["process_results"])] if config.get("process_results") else []
    ours = bool(scorers) and all(scorer.endswith("colocate.evaluation.code.pass_at_1") for scorer in scorers)
    if config.get("unsafe_code") and not ours and not code.is_stock_humaneval(config):
        raise InputError(
            f"benchmarks: task {entry.name} runs generated programs with code of its own, outside the sandbox; "
            "allowed: lm-eval's humaneval tasks, or a YAML whose metric is !function colocate.evaluation.code.pass_at_1"
        )


def _check_needs(entry) -> None:
    from importlib.util import find_spec

    folders = [part for part in (entry.yaml_path.parts if entry.yaml_path else ()) if part in NEEDS]
    for modules, packages in (NEEDS[folder] for folder in folders):
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            raise InputError(
                f"benchmarks: task {entry.name} needs {', '.join(missing)}; install into the environment: {packages}"
            )
    if "minerva_math" in folders:
        _check_antlr(entry.name)
    if "ifeval" in folders:
        sentence_splitter.load()


def _check_antlr(name: str) -> None:
    from importlib.metadata import version

    found = version("antlr4-python3-runtime")
    if not found.startswith("4.11"):
        raise InputError(f"benchmarks: task {name} needs antlr4-python3-runtime 4.11; found {found}")


# ---------------------------------------------------------------------------------------------------------------- index


def _root() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


def _index(folders: Iterable[Path]) -> dict:
    """lm-eval's entries by name; a tag that several folders use has the tasks of all."""
    from lm_eval.tasks import TaskManager

    index: dict = {}
    for folder in folders:
        for name, entry in TaskManager(include_path=[folder], include_defaults=False).task_index.items():
            if entry.kind.name == "TAG" and name in index:
                index[name].tags |= entry.tags
            else:
                index[name] = entry
    return index


def _with_children(start, index: dict) -> dict:
    """`index` with lm-eval's folders that define what is missing: `start` (a name or an entry) and the tasks behind it.

    A name that no folder defines stays missing.
    """
    folders: list[Path] = []
    while True:
        missing = _undefined(start, index)
        new = sorted({folder for name in missing for folder in _folders(name)} - set(folders))
        if not new:
            return index
        folders += new
        index = _index(folders) | index


def _undefined(start, index: dict) -> set[str]:
    entries, missing, seen = [start], set(), set()
    for one in entries:  # grows
        if isinstance(one, str) and one not in index:
            missing.add(one)
            continue
        entry = index[one] if isinstance(one, str) else one
        if entry.name not in seen:
            seen.add(entry.name)
            entries += [child for child in _children(entry) if isinstance(child, str)]
    return missing


def _children(entry) -> list:
    """Names of a group's or tag's tasks, or None for one that the group defines inside itself."""
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name != "GROUP":
        return []
    return [_child_name(item) for item in _members(entry)]


def _members(entry) -> list:
    listed = entry.cfg.get("task") or []
    return [listed] if isinstance(listed, str) else listed


def _child_name(item) -> str | None:
    if isinstance(item, str):
        return item
    inside = isinstance(item.get("task"), list) or "dataset_path" in item or "include" in item
    return None if inside else item.get("task", item.get("group"))


def _folders(name: str) -> list[Path]:
    """Folders of lm-eval with a text that says `task: name`, `group: name` or `- name` (of a tag)."""
    key = r"""["']?(?:task|group|tag)["']?:|\s*-"""
    defines = re.compile(rf"""(?m)^(?:{key})[ \t]+["']?{re.escape(name)}["']?[ \t]*$""".encode())
    families = [folder for folder in _root().iterdir() if folder.is_dir() and name.startswith(folder.name)]
    for place in [*sorted(families, key=lambda folder: -len(folder.name))[:1], _root()]:
        texts = (path for path in place.rglob("*") if path.suffix not in NO_YAML and path.is_file())
        found = {path.parent for path in texts if defines.search(path.read_bytes())}
        if found:
            return [folder for folder in found if not found & set(folder.parents)]
    return []


def _leaves(entry, index: dict, overrides: dict) -> list[tuple[object, dict]]:
    """The tasks of an entry, each with what the groups around it override; as lm-eval's factory resolves them."""
    from lm_eval.tasks._factory import GROUP_FIELD_NAMES
    from lm_eval.tasks._yaml_loader import load_yaml

    if entry.kind.name not in ("GROUP", "TAG"):
        return [(entry, overrides)]
    members: list = sorted(entry.tags)
    if entry.kind.name == "GROUP":
        resolved = load_yaml(entry.yaml_path, resolve_func=True)
        overrides = {key: value for key, value in resolved.items() if key not in GROUP_FIELD_NAMES} | overrides
        members = _members(entry)
    found = []
    for item in members:
        name = _child_name(item)
        if name is None or name not in index:
            raise InputError(
                f"benchmarks: group {entry.name} "
                + ("defines tasks inside itself" if name is None else f"names {name}, which nothing defines")
                + "; name its tasks one by one"
            )
        own = (
            {} if isinstance(item, str) else {key: value for key, value in item.items() if key not in ("task", "group")}
        )
        found += _leaves(index[name], index, overrides | own)
    return found
