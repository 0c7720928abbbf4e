"""Whole evaluations of a tiny model on the built-in benchmarks: rows of items, summaries, settings, refusals."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from colocate import models
from colocate.errors import InputError
from colocate.evaluation import items as tables
from colocate.evaluation import sandbox
from evaluating import BENCHMARKS, adapted_model, reference, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return models.load_tokenizer(tiny_llama)


def test_a_multiple_choice_evaluation(tiny_llama, tokenizer):
    summary, items = run(tiny_llama, {"task": "mini_arc", "limit": 12})
    assert list(items.columns) == tables.COLUMNS
    assert items["item"].is_unique
    assert len(items) == summary["n"] == 12
    rows = [json.loads(line) for line in (BENCHMARKS / "mini_arc/test.jsonl").read_text().splitlines()][:12]
    model = models.load_model(tiny_llama, "float32", "cpu")
    for row, (_, item) in zip(rows, items.iterrows(), strict=True):
        prompt = f"Question: {row['question']}\nAnswer:"
        values = [reference(model, tokenizer, prompt, f" {choice}")[0] for choice in row["choices"]]
        gold = values.pop(row["answer"])
        assert item["gold_logprob"] == pytest.approx(gold, abs=2e-4)
        assert item["margin"] == pytest.approx(gold - max(values), abs=2e-4)
        assert item["correct"] == (gold > max(values)) == bool(item["score"])
        assert item["gold_tokens"] == len(tokenizer(f" {row['choices'][row['answer']]}").input_ids)
        assert (item["group"], item["prompt"], item["item"]) == (row["group"], prompt, tables.item_hash(row))
    assert summary["accuracy"] == items["correct"].mean()
    assert summary["gold_logprob"] == pytest.approx(items["gold_logprob"].mean())
    assert summary["margin"] == pytest.approx(items["margin"].mean())
    assert summary["groups"] == items["group"].nunique() == 3
    assert (summary["status"], summary["version"], summary["benchmark"]) == ("ok", {"mini_arc": "1.0"}, "mini_arc")
    json.dumps(summary, allow_nan=False)


def test_evaluations_repeat_exactly_and_an_adapter_changes_them(tiny_llama, tmp_path):
    adapted_model(tiny_llama, tmp_path / "adapter")
    task = {"task": "mini_gpqa", "limit": 6}
    first, items = run(tiny_llama, task)
    again, repeated = run(tiny_llama, task)
    other, changed = run(tiny_llama, task, tmp_path / "adapter")
    assert first == again
    pd.testing.assert_frame_equal(items, repeated)
    assert list(items["item"]) == list(changed["item"])
    assert first["prompt_hash"] == other["prompt_hash"]
    assert np.abs(items["gold_logprob"] - changed["gold_logprob"]).min() > 1e-3


def test_a_generative_evaluation_over_languages(tiny_llama, tokenizer):
    summary, items = run(tiny_llama, {"task": "mini_mgsm", "limit": 2, "max_new_tokens": 3})
    assert (summary["n"], summary["groups"], summary["margin"]) == (8, 2, None)
    assert items["margin"].isna().all()
    assert set(summary["version"]) == {f"mini_mgsm_{language}" for language in ("en", "es", "fr", "de")}
    assert (items.groupby("group").size() == 4).all()
    assert items["prediction"].map(len).max() <= 3  # a token is a byte
    model = models.load_model(tiny_llama, "float32", "cpu")
    rows = [json.loads(line) for line in (BENCHMARKS / "mini_mgsm/test.jsonl").read_text().splitlines()]
    by_hash = {tables.item_hash(row): row for row in rows}
    for _, item in items.iterrows():
        row = by_hash[item["item"]]
        gold = f" {row['expression']} = {row['answer']}"
        assert item["gold_logprob"] == pytest.approx(reference(model, tokenizer, item["prompt"], gold)[0], abs=5e-4)
        assert item["gold_tokens"] == len(gold)
        assert item["target"] == row["answer"]
        assert item["prompt"].count(row["question_word"] + ":") == 3


def test_settings_of_an_entry_reach_the_prompts(tiny_llama):
    plain, _ = run(tiny_llama, {"task": "mini_math", "limit": 1, "max_new_tokens": 1, "num_fewshot": 0})
    shots, items = run(tiny_llama, {"task": "mini_math", "limit": 1, "max_new_tokens": 1, "num_fewshot": 1})
    chat, talk = run(tiny_llama, {"task": "mini_math", "limit": 1, "max_new_tokens": 1, "chat_template": True})
    bare, flat = run(
        tiny_llama, {"task": "mini_math", "limit": 1, "max_new_tokens": 1, "chat_template": True}, chat_template="plain"
    )
    assert len({summary["prompt_hash"] for summary in (plain, shots, chat, bare)}) == 4
    assert items["prompt"][0].count("Question:") == 2
    assert talk["prompt"][0].count("<|im_start|>user") == 3  # the task's own two examples, as turns
    assert talk["prompt"][0].endswith("<|im_start|>assistant\n")
    assert "<|im_start|>" not in flat["prompt"][0]
    assert flat["prompt"][0].endswith("Answer:")
    assert (plain["settings"]["num_fewshot"], shots["settings"]["num_fewshot"]) == ({"mini_math": 0}, {"mini_math": 1})


def test_private_benchmarks_give_no_texts(tiny_llama):
    _, items = run(tiny_llama, {"task": "mini_gpqa", "limit": 3, "private": True})
    assert list(items.columns) == tables.COLUMNS
    assert items[["prediction", "target", "prompt"]].isna().all(axis=None)
    assert items["gold_logprob"].notna().all()


def test_items_can_be_written_as_parquet(tiny_llama, tmp_path):
    from colocate.files import write_parquet

    _, items = run(tiny_llama, {"task": "mini_math", "limit": 2, "max_new_tokens": 2})
    write_parquet(tmp_path / "items.parquet", items)
    assert list(pd.read_parquet(tmp_path / "items.parquet").columns) == tables.COLUMNS
    write_parquet(tmp_path / "none.parquet", tables.empty())
    assert len(pd.read_parquet(tmp_path / "none.parquet")) == 0


def test_without_a_sandbox_generated_code_is_not_run(tiny_llama, monkeypatch):
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda: (None, "no sandbox here"))
    summary, items = run(tiny_llama, {"task": "mini_humaneval", "limit": 1, "max_new_tokens": 2})
    assert (summary["status"], summary["reason"]) == ("not run: no sandbox", "no sandbox here")
    assert (summary["n"], summary["accuracy"], summary["stderr"]) == (0, None, None)
    assert list(items.columns) == tables.COLUMNS
    json.dumps(summary, allow_nan=False)
    with pytest.raises(InputError, match="no sandbox here"):
        run(tiny_llama, {"task": "mini_humaneval", "limit": 1}, sandbox="bubblewrap")
    accepted, one = run(
        tiny_llama, {"task": "mini_humaneval", "limit": 1, "max_new_tokens": 2}, sandbox="none-accept-risk"
    )
    assert (accepted["status"], len(one)) == ("ok", 1)


def test_mistakes_in_the_config_are_named(tiny_llama, tmp_path):
    with pytest.raises(InputError, match="mini_moon.*mini_arc"):
        run(tiny_llama, {"task": "mini_moon"})
    with pytest.raises(InputError, match="evaluation.sandbox.*docker.*bubblewrap"):
        run(tiny_llama, {"task": "mini_arc"}, sandbox="docker")
    with pytest.raises(InputError, match="unknown keys.*beam"):
        run(tiny_llama, {"task": "mini_arc"}, beam=3)
    with pytest.raises(InputError, match="no data set allenai/ai2_arc.*fetch"):
        run(tiny_llama, {"task": "arc_easy", "source": "allenai/ai2_arc"}, datasets_dir=tmp_path)


# ---------------------------------------------------------------------------------------------------- the real model


@pytest.mark.slow
@pytest.mark.smollm2
def test_base_scores_are_those_of_the_readme(smollm2, tmp_path):
    """Float32 and bfloat16 round differently: an item or two may change sides."""
    shutil.copytree(BENCHMARKS / "mini_arc", tmp_path / "mini_arc")
    summary, _ = run(smollm2, {"task": "mini_arc"}, benchmarks_dir=tmp_path)
    readme = (BENCHMARKS / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if line.startswith("| `mini_arc`") and "[" in line]
    assert summary["accuracy"] == pytest.approx(float(line.split("|")[3]), abs=0.04)
