"""From a benchmark's config entry to lm-eval tasks: the built-in mini ones, or lm-eval's own on local data.

    source     task definition                    data
    builtin    <benchmarks_dir>/<task>/*.yaml     JSONL files beside it
    <hub id>   lm-eval's own, by name             <datasets_dir>/<hub id>/, laid out as on the hub (`fetch_dataset`)

Nothing is downloaded here, and no cache is shared with other jobs. Tasks whose code lm-eval would run unprotected get
the project's sandbox instead (code.py). Only the folder in use is indexed: lm-eval's whole index takes 4-10 s a
process.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

from colocate.errors import InputError
from colocate.files import sha256, write_json

# What makes items of a hub data set alike: a column, or (for translations of one list of problems) the position.
POSITION = "#"
GROUPS = {"cais/mmlu": "subject", "juletxara/mgsm": POSITION}


def load(entry: dict, *, benchmarks_dir: Path, datasets_dir: Path, cache_dir: Path, seed: int) -> dict:
    """The lm-eval tasks of one config entry, by name, ready to run.

    `entry` keys: task, source, num_fewshot, max_new_tokens (the task's own where absent or None). `cache_dir`: a
    private folder, kept until the tasks are done. `seed` fixes few-shot draws and the order of choices. Raises
    InputError where the task or its data is absent.
    """
    name, source = entry["task"], entry.get("source", "builtin")
    overrides = {} if entry.get("num_fewshot") is None else {"num_fewshot": entry["num_fewshot"]}
    if source == "builtin":
        folders = [benchmarks_dir / name]
        if not folders[0].is_dir():
            found = ", ".join(sorted(path.name for path in benchmarks_dir.glob("*/"))) or "nothing"
            raise InputError(f"benchmarks: task {name!r} is not in {benchmarks_dir}; found {found}")
    else:
        folders = _stock_folders(name)
        overrides |= _local_data(source, datasets_dir, cache_dir)
    manager = _manager(name, folders)
    random.seed(seed)  # some tasks shuffle choices with the global generator when they are built
    built = _build(name, manager.task_index, overrides)
    tasks = manager.load(built if isinstance(built, list) else [built])["tasks"]
    for task in tasks.values():
        task.set_fewshot_seed(seed)
        if entry.get("max_new_tokens") is not None and task.OUTPUT_TYPE == "generate_until":
            task.set_config("generation_kwargs", {"max_gen_toks": entry["max_new_tokens"]}, update=True)
    return tasks


def groups(name: str, documents: list[dict], source: str) -> list[str]:
    """The group of each document: the unit in which errors are alike (template, subject, problem), or itself."""
    column = GROUPS.get(source, "group")
    if column == POSITION:
        return [str(position) for position in range(len(documents))]
    return [str(document.get(column, f"{name}-{position}")) for position, document in enumerate(documents)]


def read_splits(folder: Path, **columns: str) -> dict:
    """{split: Dataset} of a folder's JSONL files, limited to rows with these column values. In memory: no cache."""
    from datasets import Dataset

    splits = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        chosen = [row for row in rows if all(row[key] == value for key, value in columns.items())]
        splits[path.stem] = Dataset.from_list(chosen)
    return splits


def fetch_dataset(source: str, out: Path, *, revision: str | None = None) -> None:
    """Download a hub data set (network) into the folder `out`, whole or not at all.

    manifest.json beside its files: {source, revision (the commit), files: {path: sha256}}.
    """
    from huggingface_hub import HfApi, snapshot_download

    revision = HfApi().dataset_info(source, revision=revision).sha
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as private:
        folder = Path(private, "data")
        snapshot_download(source, repo_type="dataset", revision=revision, local_dir=folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listing = {str(path.relative_to(folder)): sha256(path) for path in files}
        write_json(folder / "manifest.json", {"source": source, "revision": revision, "files": listing})
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)


def _build(name: str, index: dict, overrides: dict):
    """The task, group or (for a tag) list of tasks, by lm-eval's factory: its public loader cannot override them."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._factory import TaskFactory

    from colocate.evaluation import code

    config = index[name].cfg
    if config and code.is_stock_humaneval(config):
        return TaskManager(include_defaults=False).load(code.in_sandbox(config) | overrides)["tasks"][name]
    return TaskFactory().build(index[name], overrides=overrides, registry=index)


def _stock_folders(name: str) -> list[Path]:
    """Where to look for one of lm-eval's own tasks: the folder it is named after (mmlu_anatomy: mmlu), then all."""
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    named = [folder for folder in root.iterdir() if folder.is_dir() and name.startswith(folder.name)]
    return [*sorted(named, key=lambda folder: -len(folder.name))[:1], root]


def _manager(name: str, folders: list[Path]):
    from lm_eval.tasks import TaskManager

    for folder in folders:
        manager = TaskManager(include_path=[folder], include_defaults=False)
        if name in manager.task_index:
            return manager
    raise InputError(f"benchmarks: no task, group or tag {name!r} in {folders[-1]}")


def _local_data(source: str, datasets_dir: Path, cache_dir: Path) -> dict:
    folder = datasets_dir / source
    if not folder.is_dir():
        raise InputError(
            f"benchmarks: no data set {source} in {datasets_dir}; run the target `fetch` where there is network"
        )
    return {"dataset_path": str(folder.resolve()), "dataset_kwargs": {"cache_dir": str(cache_dir)}}
