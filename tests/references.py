"""Stand-ins for a model that know a benchmark's answers: one answers with the reference, one never does."""

import os
from pathlib import Path

import pandas as pd
from lm_eval import evaluator
from lm_eval.api.model import LM

from colocate import evaluation
from colocate.evaluation import items as tables
from colocate.evaluation import tasks

BENCHMARKS = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
NO_ANSWER = "no answer\n"


class Knowing(LM):
    """`right`: answer with each document's reference; else with another choice, or with words that answer nothing."""

    def __init__(self, loaded: dict, right: bool):
        super().__init__()
        self.loaded, self.right = loaded, right

    def loglikelihood(self, requests, disable_tqdm: bool = True):
        return [(0.0 if self._is_gold(one) == self.right else -9.0, False) for one in requests]

    def _is_gold(self, request) -> bool:
        task = self.loaded[request.task_name]
        target = task.doc_to_target(request.doc)
        if isinstance(target, str):
            return request.args[1].strip() == target
        return request.args[1].strip() == task.doc_to_choice(request.doc)[target].strip()

    def generate_until(self, requests, disable_tqdm: bool = True):
        return [self._reference(one) if self.right else NO_ANSWER for one in requests]

    def _reference(self, request) -> str:
        return evaluation._gold_text(self.loaded[request.task_name], request.doc, chat=True)

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True):
        raise NotImplementedError("no benchmark of this project asks for it")


def load(entry: dict, datasets_dir: Path, cache_dir: Path, seed: int = 1234) -> dict:
    places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": datasets_dir, "cache_dir": cache_dir}
    return tasks.load(entry, seed=seed, **places)


def answered(entry: dict, loaded: dict, right: bool) -> pd.DataFrame:
    """The table of items of an evaluation by one of the stand-ins."""
    results = evaluator.evaluate(
        Knowing(loaded, right),
        {"tasks": loaded},
        limit=entry.get("limit"),
        bootstrap_iters=0,
        confirm_run_unsafe_code=True,
    )
    samples = results["samples"]
    gold = {}
    for name, task in loaded.items():
        for sample in samples[name]:
            choice = task.OUTPUT_TYPE == "multiple_choice"
            gold[name, sample["doc_id"]] = [1] * len(task.doc_to_choice(sample["doc"])) if choice else (0.0, 1)
    groups = {name: tasks.groups(name, list(task.eval_docs), entry["source"]) for name, task in loaded.items()}
    return tables.table(loaded, samples, groups, gold, entry)


def mirror_root() -> Path | None:
    """Real benchmark data, if this machine has it: COLOCATE_DATASETS, or shared/datasets beside the checkout."""
    named = os.environ.get("COLOCATE_DATASETS")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "datasets"
    return root if root.is_dir() else None
