"""Rows of items: standard errors, margins, what an item is known by."""

import numpy as np
import pytest

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


def test_choices_margins_and_several_right_answers():
    sample = {
        "filtered_resps": [(-3.0, False), (-1.0, True), (-2.0, False)],
        "arguments": [("q", " a"), ("q", " b"), ("q", " c")],
        "target": 2,
    }
    row = tables._choice(sample, [4, 5, 6])
    assert row == {"gold_logprob": -2.0, "gold_tokens": 6, "margin": -1.0, "prediction": "b", "target": "c"}
    assert tables._choice(sample | {"target": [0, 1]}, [4, 5, 6])["margin"] == 1.0
    assert tables._choice(sample | {"target": "a"}, [4, 5, 6])["margin"] == -2.0


def test_items_are_known_by_their_raw_row():
    assert tables.item_hash({"a": 1, "b": "x"}) == tables.item_hash({"b": "x", "a": 1})
    assert tables.item_hash({"a": 1}) != tables.item_hash({"a": 2})
