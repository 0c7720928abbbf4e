"""Accuracies near guessing are marked, arms that were asked something else are refused, KL to base is what it says."""

import numpy as np
import pandas as pd
import pytest
import torch

from colocate import models
from colocate.drift import kl_to_base
from colocate.errors import InputError
from colocate.evaluation.chance import check_paired, mark
from colocate.pairs import Text
from colocate.profiles.compared import Compared
from evaluating import adapted_model, run


def test_an_accuracy_is_marked_unless_it_is_clearly_above_guessing():
    assert mark(0.30, 0.05, 80, 0.25) == {"chance": 0.25, "near_chance": True}
    assert mark(0.40, 0.05, 80, 0.25) == {"chance": 0.25, "near_chance": False}
    assert mark(0.10, 0.05, 80, 0.25)["near_chance"]
    assert mark(0.0, 0.0, 80, 0.0)["near_chance"]
    assert mark(1.0, 0.0, 80, 0.0) == {"chance": 0.0, "near_chance": False}
    assert mark(1.0, None, 1, 0.25)["near_chance"]  # one item, right: one guess in four is
    assert mark(None, None, 0, None) == {"chance": None, "near_chance": None}


def test_summaries_say_what_guessing_would_score(tiny_llama):
    choices, _ = run(tiny_llama, {"task": "mini_arc", "limit": 4})
    assert choices["chance"] == 0.25
    written, _ = run(tiny_llama, {"task": "mini_math", "limit": 2, "max_new_tokens": 2})
    assert (written["accuracy"], written["chance"], written["near_chance"]) == (0.0, 0.0, True)


def test_arms_that_were_asked_something_else_are_refused():
    base = pd.DataFrame({"item": ["a", "b"], "doc_hash": ["1", "2"]})
    check_paired({"base": base, "arm": base.iloc[::-1]})
    with pytest.raises(InputError, match="base and arm: 1 items were processed differently .b, .*evaluation.seed"):
        check_paired({"base": base, "arm": base.assign(doc_hash=["1", "3"])})
    with pytest.raises(InputError, match="base and arm: 2 items are in one of them alone"):
        check_paired({"base": base, "arm": base.assign(item=["a", "c"])})


TEXTS = [
    Text("one", "news", "en", "It rained in the night."),
    Text("two", "news", "en", "The road was wet, and empty."),
]


def test_kl_to_base_is_the_written_out_sum(tiny_llama, tmp_path):
    model, tokenizer = adapted_model(tiny_llama, tmp_path), models.load_tokenizer(tiny_llama)
    found = kl_to_base(Compared.of_adapter(model), tokenizer, TEXTS, max_tokens=20)
    base = models.load_model(tiny_llama, "float32", "cpu")
    for row, text in zip(found.itertuples(), TEXTS, strict=True):
        ids = torch.tensor([tokenizer(text.text).input_ids[:20]])
        with torch.no_grad():
            p, q = (one(input_ids=ids).logits[0, :-1].double().log_softmax(-1) for one in (base, model))
        expected = float((p.exp() * (p - q)).sum(-1).mean())
        assert (row.text, row.tokens) == (text.id, ids.shape[1])
        assert row.kl == pytest.approx(expected, rel=1e-3)
        assert row.kl > 0.01


def test_a_model_has_not_drifted_from_itself(tiny_llama):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    same = Compared.of_release(model, models.load_model(tiny_llama, "float32", "cpu"))
    found = kl_to_base(same, tokenizer, [*TEXTS, Text("short", "news", "en", "a")])
    assert list(found["text"]) == ["one", "two"]
    np.testing.assert_allclose(found["kl"], 0, atol=1e-9)
