"""The published benchmarks on their real data, where this machine has it: references score 1, wrong answers 0."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from colocate import models, questions
from colocate.evaluation import sandbox, tasks
from colocate.made_pairs import from_benchmark
from references import BENCHMARKS, answered, load, mirror_root

DATASETS = mirror_root()
WHY = "no benchmark data here: set COLOCATE_DATASETS to a folder that mirrors hub data sets"
pytestmark = pytest.mark.skipif(DATASETS is None, reason=WHY)

TASKS = {  # task -> (data set, items of each task of the group, other keys of the entry)
    "mmlu": ("cais/mmlu", 2, {}),
    "arc_challenge": ("allenai/ai2_arc", 60, {}),
    "arc_easy": ("allenai/ai2_arc", 60, {}),
    "gsm8k": ("openai/gsm8k", 60, {}),
    "mgsm_direct": ("juletxara/mgsm", 20, {}),
    "mgsm_cot_native": ("juletxara/mgsm", 20, {"subset": ["mgsm_native_cot_*"]}),
    "hendrycks_math": ("EleutherAI/hendrycks_math", 40, {}),
    "hendrycks_math500": ("HuggingFaceH4/MATH-500", None, {}),
    "minerva_math": ("EleutherAI/hendrycks_math", 10, {}),
    "minerva_math500": ("HuggingFaceH4/MATH-500", 20, {}),
    "humaneval": ("openai/openai_humaneval", 10, {}),
    "humaneval_instruct": ("openai/openai_humaneval", 6, {}),
    "humaneval_plus": ("evalplus/humanevalplus", 6, {}),
}


def needs(name: str, source: str) -> None:
    if name.startswith("minerva") and not find_spec("math_verify"):
        pytest.skip("minerva_math needs math-verify and antlr4-python3-runtime==4.11.0")
    if name.startswith("humaneval") and not sandbox.available()[0]:
        pytest.skip(sandbox.available()[1])
    if not (DATASETS / source).is_dir():
        pytest.skip(f"{source} is not in {DATASETS}")


@pytest.mark.parametrize("name", TASKS)
def test_references_score_one_and_wrong_answers_nothing(tmp_path, name):
    source, limit, more = TASKS[name]
    needs(name, source)
    entry = {"task": name, "source": source, "limit": limit} | more
    loaded = load(entry, DATASETS, tmp_path)
    right, wrong = answered(entry, loaded, right=True), answered(entry, loaded, right=False)
    assert len(right) == len(wrong) == (limit * len(loaded) if limit else len(next(iter(loaded.values())).eval_docs))
    assert right["item"].is_unique
    assert right["score"].eq(1.0).all(), right.loc[right["score"] != 1.0, "target"].tolist()
    assert wrong["score"].eq(0.0).all(), wrong.loc[wrong["score"] != 0.0, "target"].tolist()


@pytest.mark.slow
def test_all_references_of_humaneval_plus_but_one_pass(tmp_path):
    """HumanEval/32 asks for a root of a polynomial; its released extra tests fail the released solution."""
    needs("humaneval_plus", "evalplus/humanevalplus")
    entry = {"task": "humaneval_plus", "source": "evalplus/humanevalplus"}
    loaded = load(entry, DATASETS, tmp_path)
    items = answered(entry, loaded, right=True)
    (task,) = loaded.values()
    failed = [task.eval_docs[int(position)]["task_id"] for position in items.index[items["score"] == 0]]
    assert (items["score"].sum(), failed) == (163, ["HumanEval/32"])


@pytest.mark.parametrize(
    ("task", "source", "shots", "asked"),
    [
        ("gsm8k", "openai/gsm8k", 3, "Question:"),
        ("mmlu_anatomy", "cais/mmlu", 5, "Answer:"),
        ("mgsm_direct_de", "juletxara/mgsm", 8, "Antwort:"),
        ("arc_challenge", "allenai/ai2_arc", 25, "Question:"),
    ],
)
def test_few_shot_examples_are_as_many_as_asked_for_and_those_of_the_seed(tmp_path, task, source, shots, asked):
    def prompts(seed: int) -> list[str]:
        (one,) = load({"task": task, "source": source, "num_fewshot": shots}, DATASETS, tmp_path, seed).values()
        return [one.fewshot_context(one.eval_docs[i], shots) for i in range(3)]

    first = prompts(1)
    assert all(prompt.count(asked) >= shots + 1 for prompt in first)
    assert first == prompts(1)
    if task != "mmlu_anatomy":  # whose examples are the first five, always
        assert first != prompts(2)


@pytest.mark.parametrize(
    ("task", "source", "split", "choices"),
    [
        ("arc_easy", "allenai/ai2_arc", "train", True),
        ("arc_challenge", "allenai/ai2_arc", "train", True),
        ("gsm8k", "openai/gsm8k", "train", False),
        ("hendrycks_math_algebra", "EleutherAI/hendrycks_math", "train", False),
    ],
)
def test_pairs_are_made_of_fetched_training_splits(tiny_llama, tmp_path, task, source, split, choices):
    places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": DATASETS, "cache_dir": Path(tmp_path)}
    found = questions.read(task, {"task": task, "source": source}, split, 0, **places)
    rows, left_out = from_benchmark(found, models.load_tokenizer(tiny_llama), 30, 0, 4096)
    assert len(rows) == 30, left_out
    assert len(found) > 1000
    assert {one.has_choices for one in found} == {choices}
    for row in rows:
        assert len({row["correct"], row["incorrect"], row["incorrect2"]}) == 3
        assert row["correct"].startswith(" ")


def test_pairs_are_made_of_mmlu_s_dev_split(tiny_llama, tmp_path):
    entry = {"task": "mmlu", "source": "cais/mmlu", "subset": ["anatomy", "virology"]}
    places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": DATASETS, "cache_dir": Path(tmp_path)}
    rows, left_out = from_benchmark(
        questions.read("mmlu", entry, "dev", 0, **places), models.load_tokenizer(tiny_llama), 30, 0, 4096
    )
    assert len(rows) == 10, left_out
    assert {row["domain"] for row in rows} == {"anatomy", "virology"}
    assert {row["correct"] for row in rows} <= {" A", " B", " C", " D"}


def test_the_data_of_a_study_has_one_digest(tmp_path):
    entry = {"task": "mmlu_anatomy", "source": "cais/mmlu"}
    digests = {tasks.data_digest(load(entry | {"num_fewshot": n}, DATASETS, tmp_path)) for n in (0, 0, 5)}
    assert len(digests) == 2
