"""From lm-eval's samples to one row an item, and from those rows to the summary of one evaluation.

gold_logprob   log p(gold answer | prompt) in nats, summed over its gold_tokens tokens: the gold choice of a
               multiple-choice item; of a generative item the text that a few-shot example would show (worked answer)
margin         log p(gold choice) - max over wrong choices of log p(choice); null for generative items
               (of a task that fills each choice into the prompt, p is that of the text after it, the same for all)
score          the task's metric that colocate.evaluation.tasks.score_of names, 0 to 1
correct        score > 1/2
stderr         of the mean score, clustered by group, with the small-sample factor; null with one group:
               sqrt(G / (G - 1) sum_g (sum_{i in g} (x_i - mean x))^2) / n
               Source: Miller 2024, "Adding error bars to evals", section 2.2.
"""

import hashlib
import math

import numpy as np
import pandas as pd

from colocate import rows as data_rows
from colocate.errors import InputError
from colocate.evaluation.tasks import score_of

TEXTS = ["prediction", "target", "prompt"]  # never written for a private benchmark
COLUMNS = ["item", "doc_hash", "group", "correct", "score", "gold_logprob", "gold_tokens", "margin", *TEXTS]


def table(
    tasks: dict, samples: dict[str, list[dict]], groups: dict[str, list[str]], gold: dict, entry: dict
) -> pd.DataFrame:
    """One row an item, in the order of the tasks and their documents; columns COLUMNS.

    `samples`: lm-eval's, by task; `groups`: by task and document; `gold[task, doc_id]` = (log-probability, tokens) of
    generative items and tokens of each choice of multiple-choice items. InputError for a score that is not from 0 to 1.
    """
    rows = []
    for name, task in tasks.items():
        metric, chosen = score_of(task, entry)
        raw = _raw_rows(task)
        for sample in (sample for sample in samples[name] if sample["filter"] == chosen):
            position = sample["doc_id"]
            score = _score(name, metric, sample[metric])
            row = {
                "item": item_hash(raw[position] if raw is not None else sample["doc"]),
                "doc_hash": sample["doc_hash"],
                "group": groups[name][position],
                "correct": score > 0.5,
                "score": score,
                "prompt": sample["arguments"][0][0],
            }
            fill = _choice if task.OUTPUT_TYPE == "multiple_choice" else _generated
            rows.append(row | fill(task, sample, gold[name, position]))
    items = pd.DataFrame(rows, columns=COLUMNS)
    return items.assign(**dict.fromkeys(TEXTS)) if entry.get("private") else items


def empty() -> pd.DataFrame:
    """The table of an evaluation that was not run."""
    return pd.DataFrame(columns=COLUMNS)


def summarise(items: pd.DataFrame) -> dict:
    """accuracy, stderr, n, groups (their number), gold_logprob and margin (means; null where no item has one)."""
    score = items["score"].to_numpy(dtype=float)
    return {
        "accuracy": _number(score.mean()) if len(items) else None,
        "stderr": clustered_stderr(score, items["group"].to_numpy()) if len(items) else None,
        "n": len(items),
        "groups": int(items["group"].nunique()),
        "gold_logprob": _number(items["gold_logprob"].astype(float).mean()),
        "margin": _number(items["margin"].astype(float).mean()),
    }


def clustered_stderr(score: np.ndarray, group: np.ndarray) -> float | None:
    """Standard error of the mean of `score` (n,) with clusters `group` (n,): formula above."""
    sums = pd.Series(score - score.mean()).groupby(group).sum().to_numpy()
    if len(sums) < 2:
        return None
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(score))


def prompt_hash(items_in_order: list[str]) -> str:
    """Digest of all prompts of an evaluation: equal in two if they asked the same questions in the same words."""
    return hashlib.sha256("\0".join(items_in_order).encode()).hexdigest()[:16]


def item_hash(row: dict) -> str:
    """Digest of a raw row: the same item in every arm, seed, prompt format and version of lm-eval."""
    return data_rows.digest(row)


def _raw_rows(task):
    """The data set's own rows, where processing kept their number and so their order; else None."""
    split = task.config.test_split or task.config.validation_split
    raw = task.dataset[split]
    return raw if len(raw) == len(task.eval_docs) else None


def _score(name: str, metric: str, value: object) -> float:
    if isinstance(value, bool | int | float | np.number) and 0 <= value <= 1:
        return float(value)
    raise InputError(
        f"benchmarks: task {name}: metric: {metric} gives an item {value!r}; allowed: a score from 0 to 1. Set "
        "`metric` to another of the task's"
    )


def _choice(task, sample: dict, tokens: list[int]) -> dict:
    """Columns of a multiple-choice item; several right choices count as their best."""
    logprobs = [float(response[0]) for response in sample["filtered_resps"]][: len(tokens)]
    choices = task.doc_to_choice(sample["doc"])
    # Where choices are filled into the prompt, the prompt function tells the right one; the target follows them all.
    target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    named = target if isinstance(target, list) else [target]
    right = [choices.index(index) if isinstance(index, str) else index for index in named]
    gold = max(right, key=logprobs.__getitem__)
    wrong = [value for index, value in enumerate(logprobs) if index not in right]
    return {
        "gold_logprob": logprobs[gold],
        "gold_tokens": tokens[gold],
        "margin": logprobs[gold] - max(wrong),
        "prediction": choices[int(np.argmax(logprobs))].strip(),
        "target": choices[gold].strip(),
    }


def _generated(task, sample: dict, gold: tuple[float, int]) -> dict:
    target = sample["target"]
    return {
        "gold_logprob": gold[0],
        "gold_tokens": gold[1],
        "margin": None,
        "prediction": str(sample["resps"][0][0]),
        "target": str(target[0] if isinstance(target, list) else target),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
