"""Rows of items: standard errors, margins, what an item is known by."""

import numpy as np
import pytest

from colocate.errors import InputError
from colocate.evaluation import items as tables


def test_clustered_standard_errors_follow_the_formula():
    rng = np.random.default_rng(0)
    score, group = rng.random(30), np.repeat(np.arange(10), 3)
    sums = [(score[group == g] - score.mean()).sum() for g in range(10)]
    assert tables.clustered_stderr(score, group) == pytest.approx(np.sqrt(10 / 9 * np.square(sums).sum()) / 30)
    singles = tables.clustered_stderr(score, np.arange(30))
    assert singles == pytest.approx(score.std(ddof=1) / np.sqrt(30))
    assert tables.clustered_stderr(np.repeat(score[:10], 3), group) > singles
    assert tables.clustered_stderr(score, np.zeros(30)) is None


class Choosing:
    """A task whose choices are `choices`, and whose prompt function says which is right where they are filled in."""

    def __init__(self, choices: list[str], multiple_input: int = 0):
        self.doc_to_choice = lambda _: choices
        self.doc_to_text = lambda document: document["right"]
        self.multiple_input = multiple_input


def test_choices_margins_and_several_right_answers():
    sample = {"filtered_resps": [(-3.0, False), (-1.0, True), (-2.0, False)], "doc": {"right": 0}, "target": 2}
    task = Choosing([" a", "b", " c"])
    row = tables._choice(task, sample, [4, 5, 6])
    assert row == {"gold_logprob": -2.0, "gold_tokens": 6, "margin": -1.0, "prediction": "b", "target": "c"}
    assert tables._choice(task, sample | {"target": [0, 1]}, [4, 5, 6])["margin"] == 1.0
    assert tables._choice(task, sample | {"target": " a"}, [4, 5, 6])["margin"] == -2.0


@pytest.mark.parametrize("right", [0, 1])
def test_of_choices_filled_into_the_prompt_the_prompt_tells_the_right_one(right):
    logprobs = [-3.0, -1.0]
    sample = {"filtered_resps": [(value, False) for value in logprobs], "doc": {"right": right}, "target": "was small"}
    row = tables._choice(Choosing(["the cup", "the box"], multiple_input=2), sample, [4, 4])
    assert (row["gold_logprob"], row["margin"]) == (logprobs[right], [-2.0, 2.0][right])
    assert (row["target"], row["prediction"]) == (["the cup", "the box"][right], "the box")


@pytest.mark.parametrize("value", [-3.2, 1.5, float("nan"), (0, [0.5, 0.5]), None])
def test_what_is_no_score_of_an_item_is_refused(value):
    assert tables._score("lambada", "acc", True) == 1.0
    assert tables._score("lambada", "acc", np.float64(0.25)) == 0.25
    with pytest.raises(InputError, match=r"task lambada: metric: perplexity gives .*; allowed: a score from 0 to 1"):
        tables._score("lambada", "perplexity", value)


def test_items_are_known_by_their_raw_row():
    assert tables.item_hash({"a": 1, "b": "x"}) == tables.item_hash({"b": "x", "a": 1})
    assert tables.item_hash({"a": 1}) != tables.item_hash({"a": 2})
