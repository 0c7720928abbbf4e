"""Evaluation: the live model against plain forward passes, the table of items, whole evaluations of a tiny model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from colocate import adapters, evaluation, models
from colocate.errors import InputError
from colocate.evaluation import items as tables
from colocate.evaluation import sandbox, tasks

BENCHMARKS = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
SETTINGS = {"seed": 1234, "batch_size": 8, "sandbox": "auto"}
SHOTS = "Question: What is 2 + 2?\nAnswer: 4\n\nQuestion: What is 1 + 5?\nAnswer: 6\n\n"
FAMILY = [SHOTS + f"Question: {text}?\nAnswer:" for text in ("How far is it", "Who", "When was it", "Is it")]
REQUESTS = [
    (context, continuation)
    for context in ("Question: Why?\nAnswer:", *FAMILY)
    for continuation in (" no", " because it is so", "\u00e9", " yes, very\n")
] + [("x", " one token more"), ("", "nothing before")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return models.load_tokenizer(tiny_llama)


def sliding_model():
    """Two layers that see all, two that see the last 12 tokens."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=12,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config).eval()


def adapted_model(folder, path):
    """LoRA on two layers and per-head RoPE bases on two, all away from their identity, saved and loaded."""
    import torch

    from colocate.budget import AdapterSpec

    spec = AdapterSpec(lora_layers=(1, 2), garfa_layers=(0, 2), rank=4, alpha=8, targets=("q_proj", "v_proj"))
    torch.manual_seed(1)
    adapted = adapters.adapt(models.load_model(folder, "float32", "cpu"), spec)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * (0.5 if "log_alpha" in name else 0.2))
    adapters.save(adapted, path)
    return adapters.load(models.load_model(folder, "float32", "cpu"), path).eval()


@pytest.fixture(params=["llama", "sliding", "adapter"])
def model(request, tiny_llama, tmp_path):
    if request.param == "llama":
        return models.load_model(tiny_llama, "float32", "cpu")
    return sliding_model() if request.param == "sliding" else adapted_model(tiny_llama, tmp_path / "adapter")


def live(model, tokenizer, batch_size: int = 8):
    from colocate.evaluation.backend import LiveModel

    return LiveModel(model, tokenizer, batch_size)


def instances(kind: str, arguments: list[tuple]) -> list:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, pair, 0) for pair in arguments]


def reference(model, tokenizer, context: str, continuation: str) -> tuple[float, bool]:
    """One request, one forward pass over all its tokens, float64 softmax."""
    import torch

    begin = tokenizer(context).input_ids or [tokenizer.eos_token_id]
    ids = begin + tokenizer(continuation).input_ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    logprobs = logits.log_softmax(-1)[len(begin) - 1 : -1]
    targets = torch.tensor(ids[len(begin) :])
    return logprobs.gather(1, targets[:, None]).sum().item(), bool((logprobs.argmax(1) == targets).all())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_log_likelihoods_equal_plain_forward_passes(model, tokenizer, batch_size):
    expected = [reference(model, tokenizer, *pair) for pair in REQUESTS]
    found = live(model, tokenizer, batch_size).loglikelihood(instances("loglikelihood", REQUESTS))
    np.testing.assert_allclose([f[0] for f in found], [e[0] for e in expected], atol=2e-4)
    assert [f[1] for f in found] == [e[1] for e in expected]


def test_greedy_continuations_are_recognised(model, tokenizer):
    """What the model would write is greedy; the flag is not always False."""
    import torch

    ids = tokenizer("Question: Why?\nAnswer:", return_tensors="pt").input_ids
    with torch.no_grad():
        best = model(ids).logits[0, -1].argmax().item()
    backend = live(model, tokenizer)
    (score,) = backend._loglikelihood_tokens([(("", ""), ids[0].tolist(), [best])])
    assert score[1]


def test_log_likelihoods_equal_those_of_the_stock_backend(tiny_llama, tokenizer):
    from lm_eval.models.huggingface import HFLM

    model = models.load_model(tiny_llama, "float32", "cpu")
    stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1).loglikelihood(
        instances("loglikelihood", REQUESTS)
    )
    found = live(model, tokenizer).loglikelihood(instances("loglikelihood", REQUESTS))
    np.testing.assert_allclose([f[0] for f in found], [s[0] for s in stock], atol=2e-4)


def test_a_long_context_is_cut_on_the_left_as_the_stock_backend_does(tmp_path):
    from lm_eval.models.huggingface import HFLM

    from tiny import make_model

    folder = make_model(tmp_path / "short", max_position_embeddings=48)
    model, tokenizer = models.load_model(folder, "float32", "cpu"), models.load_tokenizer(folder)
    requests = instances("loglikelihood", [("a long context " * 10, " and its end"), ("short", " end")])
    stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=48).loglikelihood(requests)
    found = live(model, tokenizer).loglikelihood(requests)
    np.testing.assert_allclose([f[0] for f in found], [s[0] for s in stock], atol=2e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_equal_those_of_generate_one_by_one(model, tokenizer, batch_size):
    import torch

    contexts = ["Tell me", "Why is it so?", *FAMILY]
    options = {"until": ["e"], "do_sample": False, "max_gen_toks": 12}
    expected = []
    for context in contexts:
        ids = tokenizer(context, return_tensors="pt").input_ids
        mask = torch.ones_like(ids)
        written = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=2)
        text = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        expected.append(text.split("e")[0])
    backend = live(model, tokenizer, batch_size)
    assert backend.generate_until(instances("generate_until", [(context, options) for context in contexts])) == expected


def test_the_head_computes_in_float32(tiny_llama, tokenizer):
    """A bfloat16 model: log-probabilities of the float32 product of its last hidden state, not on the bfloat16 grid."""
    import torch

    model = models.load_model(tiny_llama, "bfloat16", "cpu")
    ids = tokenizer("Question: Why?\nAnswer:", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = model.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, -1].float()
        logits = hidden @ model.lm_head.weight.float().T
    expected = logits.log_softmax(0)
    backend = live(model, tokenizer)
    found = backend._loglikelihood_tokens([(("", ""), ids[0].tolist(), [token]) for token in range(259)])
    np.testing.assert_allclose([f[0] for f in found], expected.numpy(), atol=1e-4)
    assert len({f[0] for f in found}) > 250


def test_few_shot_examples_are_run_once(tiny_llama, tokenizer):
    model = models.load_model(tiny_llama, "float32", "cpu")
    backend, widths = live(model, tokenizer, 2), []
    model.register_forward_pre_hook(lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape), with_kwargs=True)
    backend.loglikelihood(instances("loglikelihood", [(context, " yes") for context in FAMILY]))
    shared = len(tokenizer(SHOTS + "Question: ").input_ids)
    assert widths[0] == (1, shared)
    assert all(width < shared for _, width in widths[1:])


def test_contexts_that_begin_alike_are_run_together():
    from colocate.evaluation.backend import _families

    spanish, french = tuple(range(40)), tuple(range(50, 90))
    contexts = [spanish + (i,) for i in range(4)] + [(1, 2), (3,)] + [french + (i,) for i in range(5)]
    assert _families(contexts) == [[0, 1, 2, 3], [6, 7, 8, 9, 10], [4, 5]]


# ------------------------------------------------------------------------------------------------------ items


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


# ------------------------------------------------------------------------------------------ whole evaluations


def run(folder, task: dict, adapter=None, **changes):
    places = {"benchmarks_dir": changes.pop("benchmarks_dir", BENCHMARKS)}
    if "datasets_dir" in changes:
        places["datasets_dir"] = changes.pop("datasets_dir")
    where = {"dtype": "float32", "device": "cpu"}
    return evaluation.evaluate(folder, adapter, task["task"], task, SETTINGS | changes, **where, **places)


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


@pytest.mark.slow
def test_a_stock_task_that_does_not_exist_is_named(tiny_llama, tmp_path):
    mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", "test", [arc(0)])
    with pytest.raises(InputError, match="no task.*arc_moon"):
        run(tiny_llama, {"task": "arc_moon", "source": "allenai/ai2_arc"}, datasets_dir=tmp_path)


# ----------------------------------------------------------------- lm-eval's own tasks on local data, with made-up rows


def mirror(root: Path, source: str, config: str, split: str, rows: list[dict]) -> None:
    """A data-set repository with one configuration, laid out as on the hub."""
    folder = root / source
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = "".join(f"  - split: {path.stem}\n    path: {path.name}\n" for path in sorted(folder.glob("*.jsonl")))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{parts}---\n")


def arc(number: int) -> dict:
    choices = {"text": [f"answer {i} of {number}" for i in range(4)], "label": list("ABCD")}
    return {"id": str(number), "question": f"Question {number}?", "choices": choices, "answerKey": "ABCD"[number % 4]}


def test_a_stock_task_on_local_data(tiny_llama, tmp_path):
    for split in ("train", "validation", "test"):
        mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", split, [arc(number) for number in range(5)])
    task = {"task": "arc_easy", "source": "allenai/ai2_arc"}
    summary, items = run(tiny_llama, task, datasets_dir=tmp_path)
    assert (summary["n"], summary["groups"], summary["source"]) == (5, 5, "allenai/ai2_arc")
    assert list(items["item"]) == [tables.item_hash(arc(number)) for number in range(5)]
    assert list(items["target"]) == [f"answer {number % 4} of {number}" for number in range(5)]


def gpqa(number: int) -> dict:
    wrong = {f"Incorrect Answer {i}": f"wrong {number}.{i}" for i in (1, 2, 3)}
    return {"Question": f"Question {number}?", "Correct Answer": f"right {number}", **wrong}


def test_the_order_of_choices_is_that_of_the_seed(tmp_path):
    mirror(tmp_path, "Idavidrein/gpqa", "gpqa_main", "train", [gpqa(number) for number in range(12)])

    def order(seed: int, name: str) -> list[tuple]:
        cache = tmp_path / name
        entry = {"task": "gpqa_main_zeroshot", "source": "Idavidrein/gpqa"}
        places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": tmp_path, "cache_dir": cache}
        (task,) = tasks.load(entry, seed=seed, **places).values()
        orders = [[tuple(doc[f"choice{i}"] for i in (1, 2, 3, 4)) for doc in task.eval_docs] for _ in range(2)]
        assert orders[0] == orders[1]
        return orders[0]

    assert order(1, "a") == order(1, "b")
    assert order(1, "a") != order(2, "c")


def problem(number: int) -> dict:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f"def add_{number}(a):\n",
        "canonical_solution": f"    return a + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
        "entry_point": f"add_{number}",
    }


def test_stock_humaneval_runs_in_the_sandbox(tmp_path):
    if not sandbox.available()[0]:
        pytest.skip(sandbox.available()[1])
    mirror(tmp_path, "openai/openai_humaneval", "openai_humaneval", "test", [problem(number) for number in range(3)])
    places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": tmp_path, "cache_dir": tmp_path / "cache"}
    for name in ("humaneval", "humaneval_instruct"):
        (task,) = tasks.load({"task": name, "source": "openai/openai_humaneval"}, seed=1, **places).values()
        assert task.UNSAFE_CODE
        document = task.eval_docs[1]
        assert evaluation._gold_text(task, document, chat=True) == "    return a + 1\n"
        for text, score in (("    return a + 1\n```\n", 1.0), ("    return a\n", 0.0)):
            answer = text if name.endswith("instruct") else text.replace("```\n", "")
            (programs,) = task._filters[0].filters[0]().apply([[answer]], [document])
            assert task.process_results(document, [programs]) == {"pass_at_1": score}


def test_translations_of_one_problem_are_one_group():
    documents = [{"question": "q"}, {"question": "r"}]
    assert tasks.groups("mgsm_direct_de", documents, "juletxara/mgsm") == ["0", "1"]
    assert tasks.groups("mmlu_anatomy", [{"subject": "anatomy"}] * 2, "cais/mmlu") == ["anatomy", "anatomy"]
    assert tasks.groups("gsm8k", documents, "openai/gsm8k") == ["gsm8k-0", "gsm8k-1"]


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
