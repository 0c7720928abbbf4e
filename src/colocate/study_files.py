"""What a study names on this machine, looked at before any job: models, training data and tasks that are not there.

`problems` reads little, so that it can run whenever the workflow is parsed: names of files, the first rows of training
data, the words of lm-eval's task files (not lm-eval itself). `programs` looks at what the jobs of a run need installed,
once it is known which jobs run, and that they run here. What needs more is checked by the first job that reads it.
"""

import itertools
import re
from importlib.util import find_spec
from pathlib import Path

from colocate import hub_data, instructions, rows, sentence_splitter
from colocate.config_schema import near
from colocate.errors import InputError

FIRST_ROWS = 100  # of each file of training data
BUILT_IN = Path("data/benchmarks")
RUNS_CODE = re.compile(rb"(?m)^unsafe_code\s*:\s*true")
TASK_NAME = re.compile(rb"""(?m)^(?:(?:["']?(?:task|group|tag)["']?:)|\s*-)[ \t]+["']?([\w./-]+)["']?[ \t]*(?:#.*)?$""")


def problems(study: dict, mirror: str = "", planning: bool = False) -> list[tuple[str, str]]:
    """[(key of the config, what was found there and what to do)] of a completed config; empty if all is there.

    `mirror`: the folder that hub data sets are read from; "" where they are fetched. `planning`: nothing will run, so
    that the models may be on another machine.
    """
    found = [] if planning else [*_models(study), *_sentence_splitter(study, mirror)]
    return [*found, *_mixture(study), *_benchmarks(study), *(_mirrored(study, mirror) if mirror else ())]


def programs(study: dict, jobs: list[dict]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What this machine lacks for jobs [{"rule", "wildcards"}] that run a model: (problems, doubts), like `problems`.

    A doubt stops nothing: where `evaluation.sandbox` is auto, a benchmark that runs programs is left out.
    """
    models = dict.fromkeys(job["wildcards"]["model"] for job in jobs)
    coarse = [name for name in models if study["models"][name]["dtype"] == "nf4"]
    said = "found nf4, which needs bitsandbytes, and that is not installed: make env EXTRAS=gpu; allowed without: "
    said += "auto, float32, bfloat16, float16"
    found = [(f"models.{name}.dtype", said) for name in coarse if find_spec("bitsandbytes") is None]

    mode, benchmarks = study["evaluation"]["sandbox"], study["benchmarks"]
    names = dict.fromkeys(job["wildcards"]["benchmark"] for job in jobs if "benchmark" in job["wildcards"])
    running = [name for name in names if _runs_code(benchmarks[name]["task"], benchmarks[name]["source"])]
    if not running or mode == "none-accept-risk":
        return found, []
    from colocate.evaluation import sandbox

    ready, reason = sandbox.available()
    which = f"found {mode}; {', '.join(running)} run{'s' * (len(running) == 1)} programs, and there is {reason}"
    lacking = [] if ready else [("evaluation.sandbox", which)]
    return (found + lacking, []) if mode == "bubblewrap" else (found, lacking)


def _runs_code(task: str, source: str) -> bool:
    """Whether a benchmark runs what a model wrote, by the files in its task's folder."""
    if task.endswith((".yaml", ".yml")):
        folders = {Path(task).parent}
    elif source == "builtin":
        folders = {BUILT_IN / task}
    else:
        folders = {path.parent for path in _lm_eval_files() if task.encode() in TASK_NAME.findall(path.read_bytes())}
    return any(RUNS_CODE.search(path.read_bytes()) for folder in folders for path in folder.glob("*.y*ml"))


def _models(study: dict) -> list[tuple[str, str]]:
    selected = study["select"]["models"]
    wanted = [name for model in selected for name in (model, *study["models"][model].get("released", []))]
    found = []
    for name in dict.fromkeys(wanted):
        kind, _, place = study["models"][name]["source"].partition(":")
        if kind == "path" and not Path(place).expanduser().exists():
            said = (
                f"found path:{place}, which is not there; allowed: a folder with safetensors and config.json, or a GGUF"
            )
            found.append((f"models.{name}.source", said))
    return found


def _mixture(study: dict) -> list[tuple[str, str]]:
    found = []
    for number, source in enumerate(study["mixture"]["sources"]):
        if source["kind"] == "jsonl":
            try:
                _read_first(Path(source["path"]).expanduser())
            except InputError as error:
                found.append((f"mixture.sources[{number}].path", str(error)))
    return found


def _read_first(path: Path) -> None:
    if not path.exists():
        raise InputError(f"found {path}, which is not there; allowed: a file or folder of instruction data")
    for file in rows.files_of(path):
        some = list(itertools.islice(rows.read(file), FIRST_ROWS))
        if not some:
            raise InputError(f"{file}: the file is empty; expected one JSON object a line")
        for number, (where, raw) in enumerate(some):
            instructions.as_row(raw, where, path.stem, number)


def _benchmarks(study: dict) -> list[tuple[str, str]]:
    found = []
    for name in study["select"]["benchmarks"]:
        entry = study["benchmarks"][name]
        if said := _task_problem(entry["task"], entry["source"]):
            found.append((f"benchmarks.{name}.task", said))
    return found


def _sentence_splitter(study: dict, mirror: str) -> list[tuple[str, str]]:
    """IFEval's, unless it comes with the data, which are still to be fetched."""
    to_fetch = not mirror and not (Path(hub_data.FETCHED) / sentence_splitter.DATASET / hub_data.MANIFEST).exists()
    if to_fetch or sentence_splitter.present():
        return []
    entries = {name: study["benchmarks"][name] for name in study["select"]["benchmarks"]}
    return [
        (f"benchmarks.{name}.task", f"found {entry['task']}, which {sentence_splitter.MISSING}")
        for name, entry in entries.items()
        if entry["source"] == sentence_splitter.DATASET
    ]


def _mirrored(study: dict, mirror: str) -> list[tuple[str, str]]:
    wanted = {study["benchmarks"][name]["source"] for name in study["select"]["benchmarks"]} - {"builtin"}
    wanted |= {source["dataset"] for source in study["mixture"]["sources"] if source["kind"] == "hub"}
    found = []
    for dataset in sorted(wanted):
        try:
            hub_data.mirrored(dataset, mirror)
        except InputError as error:
            found.append(("datasets_root", str(error).removeprefix("datasets_root: ")))
    return found


def _task_problem(task: str, source: str) -> str:
    if task.endswith((".yaml", ".yml")):
        path = Path(task)
        if not path.is_file():
            return f"found {task}, which is not there; allowed: the path of an lm-eval task's YAML"
        if not re.search(r"(?m)^(task|group)\s*:", path.read_text(encoding="utf-8", errors="replace")):
            return f"found {task}, which has no key `task` (or `group`); allowed: the YAML of an lm-eval task"
        return ""
    if source == "builtin":
        known = sorted(path.parent.name for path in BUILT_IN.glob("*/*.yaml") if path.stem == path.parent.name)
        if task in known:
            return ""
        more = "; for a task of lm-eval set `source` to the hub id of its data, for yours give the path of its YAML"
        return f"found {task!r}{near(task, known)}; allowed: {', '.join(known)}{more}"
    known = _lm_eval_tasks()
    if task in known or not known:
        return ""
    return f"found {task!r}{near(task, known)}; allowed: a task, group or tag of lm-eval (list: lm-eval ls tasks)"


def _lm_eval_tasks() -> set[str]:
    """Every word that lm-eval's task files give a name with: more than its tasks, never fewer; none without lm-eval."""
    return {name.decode() for path in _lm_eval_files() for name in TASK_NAME.findall(path.read_bytes())}


def _lm_eval_files() -> list[Path]:
    """lm-eval's task files; none without lm-eval."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        return []
    root = Path(next(iter(spec.submodule_search_locations))) / "tasks"
    return [path for path in root.rglob("*") if path.suffix in (".yaml", ".yml", "") and path.is_file()]
