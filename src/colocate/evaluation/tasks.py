"""From a benchmark's config entry to lm-eval tasks: the built-in mini ones, lm-eval's own, or yours, on local data.

    source     task definition                        data
    builtin    <benchmarks_dir>/<task>/*.yaml         JSONL files beside it
               or `task: path/to/task.yaml`           what that YAML says, on this disk
    <hub id>   lm-eval's own, by name (or a path)     <datasets_dir>/<hub id>/, laid out as on the hub (hub_data)

Nothing is downloaded here, and no cache is shared with other jobs. How definitions are found: definitions.py.
"""

import hashlib
import json
from fnmatch import fnmatchcase
from pathlib import Path

from colocate import hub_data
from colocate import rows as data_rows
from colocate.errors import InputError
from colocate.evaluation import definitions

PREFERRED_FILTER = "flexible-extract"  # of tasks that score one answer in several ways, as gsm8k does
# What makes items of a hub data set alike: a column, or (for translations of one list of problems) the position.
POSITION = "#"
GROUPS = {"cais/mmlu": "subject", "juletxara/mgsm": POSITION}


def load(entry: dict, *, benchmarks_dir: Path, datasets_dir: Path, cache_dir: Path, seed: int) -> dict:
    """The lm-eval tasks of one config entry, by name, ready to run.

    `entry` keys: task, source, num_fewshot, max_new_tokens (the task's own where absent or None), subset (only these
    tasks of a group: subjects, languages), first_n (the same first examples before every question, as lm-eval's
    `fewshot_config: {sampler: first_n}`, where the task draws or shuffles them for each). `cache_dir`: a private
    folder, kept until the tasks are done. `seed` fixes few-shot draws and the order of choices. Raises InputError where
    the task, its data, a package it needs, or as many examples are absent.
    """
    from lm_eval.api.samplers import get_sampler

    name, source = entry["task"], entry.get("source", "builtin")
    overrides = {} if entry.get("num_fewshot") is None else {"num_fewshot": entry["num_fewshot"]}
    folder = None if source == "builtin" else hub_data.folder(source, datasets_dir).resolve()
    found = definitions.find(name, Path(benchmarks_dir) if source == "builtin" else None)
    tasks = {}
    for definition, outer in _subset(found, entry):
        _check_source(definition, source)
        data = _data(definition, folder, cache_dir)
        task = definitions.build(definition, outer | overrides | data, seed)
        if entry.get("first_n") and hasattr(task, "sampler"):
            task.sampler = get_sampler("first_n")(task.sampler.df)
        task.set_fewshot_seed(seed)
        if entry.get("max_new_tokens") is not None and task.OUTPUT_TYPE == "generate_until":
            task.set_config("generation_kwargs", {"max_gen_toks": entry["max_new_tokens"]}, update=True)
        _check_examples(task)
        _check_repeatable(task)
        score_of(task, entry)
        tasks[task.task_name] = task
    return tasks


def groups(name: str, documents: list[dict], source: str) -> list[str]:
    """The group of each document: the unit in which errors are alike (template, subject, problem), or itself."""
    column = GROUPS.get(source, "group")
    if column == POSITION:
        return [str(position) for position in range(len(documents))]
    return [str(document.get(column, f"{name}-{position}")) for position, document in enumerate(documents)]


def score_of(task, entry: dict) -> tuple[str, str]:
    """(metric, filter) that score an item: the entry's `metric` and `filter`, and without these the task's own.

    That is its first metric that is averaged over items (perplexities, F1 and the like are no scores of an item), on
    the filter PREFERRED_FILTER where it has that, else on its first. InputError where there is no such one.
    """
    from lm_eval.api.metrics import mean

    metrics, filters = task.aggregation(), [ensemble.name for ensemble in task._filters]
    for key, known in (("metric", metrics), ("filter", filters)):
        if entry.get(key) not in (None, *known):
            allowed = ", ".join(known)
            raise InputError(f"benchmarks: task {task.task_name}: {key}: found {entry[key]!r}; allowed: {allowed}")
    metric = entry.get("metric") or next((name for name, average in metrics.items() if average is mean), None)
    if metric is None:
        raise InputError(
            f"benchmarks: task {task.task_name}: none of its metrics is the mean of its items' scores; found "
            f"{', '.join(metrics)}; set `metric` to one that gives each item 0 to 1, or choose another task"
        )
    return metric, entry.get("filter") or (PREFERRED_FILTER if PREFERRED_FILTER in filters else filters[0])


def reference(task, document: dict) -> str | None:
    """What a right answer to a generative question looks like, as a few-shot example would show it (worked).

    None where the task has none: IFEval's answers are judged by rules.
    """
    if isinstance(task.config.doc_to_target, int):
        return None
    if task.task_name.startswith("minerva_math"):  # its own target is the bare result, which its scoring does not find
        return (
            f"{document['solution']}\nFinal Answer: The final answer is ${document['answer']}$. I hope it is correct."
        )
    target = task.doc_to_target(document, task.fewshot_cfg.doc_to_target)
    return target[0] if isinstance(target, list) else str(target)


def read_splits(folder: Path, **columns: str) -> dict:
    """{split: Dataset} of a folder's JSONL files, limited to rows with these column values. In memory: no cache."""
    from datasets import Dataset

    splits = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        chosen = [row for row in rows if all(row[key] == value for key, value in columns.items())]
        splits[path.stem] = Dataset.from_list(chosen)
    return splits


def data_digest(tasks: dict) -> str:
    """Digest of the raw rows that the tasks are scored on, and of those that examples are drawn from, in their order.

    Of the rows, not of files: the same data as JSONL, as Parquet, fetched or out of a mirror has one digest.
    """
    digest = hashlib.sha256()
    for name in sorted(tasks):
        task = tasks[name]
        splits = [task.config.test_split or task.config.validation_split]
        if task.config.num_fewshot:
            splits += [task.config.fewshot_split or task.config.training_split]
        for split in splits:
            if split in task.dataset:
                rows = " ".join(data_rows.digest(row) for row in task.dataset[split])
                digest.update(f"{name}\n{split}\n{rows}\n".encode())
    return digest.hexdigest()[:16]


def _subset(found: list[tuple], entry: dict) -> list[tuple]:
    """The tasks that the entry's `subset` names: by task (* and ? allowed), by its end, or by its configuration."""
    wanted = entry.get("subset")
    if wanted is None:
        return found
    names = [
        {one.name, one.name.removeprefix(f"{entry['task']}_"), str((one.cfg or {}).get("dataset_name"))}
        for one, _ in found
    ]
    kept = [any(fnmatchcase(name, pattern) for name in known for pattern in wanted) for known in names]
    for name in wanted:
        if not any(fnmatchcase(one, name) for known in names for one in known):
            known = ", ".join(str((one.cfg or {}).get("dataset_name") or one.name) for one, _ in found)
            raise InputError(f"benchmarks: subset of {entry['task']}: found {name!r}; allowed: {known}")
    return [one for one, keep in zip(found, kept, strict=True) if keep]


def _check_source(definition, source: str) -> None:
    """The entry's data set is the task's, so that no task is run on data of another one."""
    own = (definition.cfg or {}).get("dataset_path")
    if source != "builtin" and own not in (None, source):
        raise InputError(f"benchmarks: task {definition.name}: source: found {source}; its data set is {own}")


def _data(definition, folder: Path | None, cache_dir: Path) -> dict:
    """Overrides that make a task read local data through a private cache."""
    config = definition.cfg or {}
    if "custom_dataset" in config:
        return {}
    own = {key: value for key, value in (config.get("dataset_kwargs") or {}).items() if key != "revision"}
    place = {} if folder is None else {"dataset_path": str(folder)}
    return place | {"dataset_kwargs": own | {"cache_dir": str(cache_dir)}}


def _check_examples(task) -> None:
    """There are as many examples as are to stand before a question; the question itself may be one of them."""
    wanted, examples = task.config.num_fewshot or 0, getattr(task, "sampler", None)
    own = examples is not None and task.fewshot_cfg.split == task.config.test_split
    there = 0 if examples is None else len(examples.df) - own
    if wanted > there:
        raise InputError(
            f"benchmarks: task {task.task_name}: num_fewshot: found {wanted}; its data has {there} to choose from"
        )


def _check_repeatable(task) -> None:
    """Documents must not change from one reading to the next (a shuffle that nothing pins would make them)."""
    process = task.config.process_docs
    if process is None:
        return
    raw = task.dataset[task.config.test_split or task.config.validation_split]
    if list(process.fresh(raw)) != list(task.eval_docs):
        raise InputError(
            f"benchmarks: task {task.task_name}: its documents differ from one reading to the next; their processing "
            "is random in a way that no seed fixes"
        )
