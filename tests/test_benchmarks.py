"""The built-in mini benchmarks: genuine lm-eval tasks, the same in the workflow and in the stock program."""

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
NAMES = ["mini_mmlu", "mini_gpqa", "mini_humaneval", "mini_math", "mini_mgsm", "mini_arc"]
METRICS = ("acc,", "exact_match,", "pass_at_1,")
LIMIT = dict.fromkeys(NAMES, 64) | {
    "mini_math": 32,
    "mini_mgsm": 8,
    "mini_humaneval": 16,
}  # items a task, stock program
SUBTASKS = {"mini_mgsm": [f"mini_mgsm_{language}" for language in ("en", "es", "fr", "de")]}


def read(name: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Load a benchmark's tasks, once each, from another working folder."""
    from colocate.evaluation import tasks

    cache, done = tmp_path_factory.mktemp("cache"), {}

    def loaded(name: str) -> dict:
        if name not in done:
            places = {"benchmarks_dir": FOLDER, "datasets_dir": cache, "cache_dir": cache}
            done[name] = tasks.load({"task": name}, seed=1234, **places)
        return done[name]

    return loaded


@pytest.fixture(scope="module")
def knowing():
    """A language model that gives each item's reference answer, or with `wrong` another one."""
    from lm_eval.api.model import LM

    class Knowing(LM):
        def __init__(self, wrong: bool = False):
            super().__init__()
            self.wrong = wrong

        def loglikelihood(self, requests, disable_tqdm=True):
            return [(self._logprob(request), False) for request in requests]

        def _logprob(self, request) -> float:
            if "choices" not in request.doc:  # the gold text of a generative item: no score depends on it
                return -5.0
            return -1.0 if (request.idx == request.doc["answer"]) != self.wrong else -9.0

        def generate_until(self, requests):
            return [self._answer(request.doc) for request in requests]

        def _answer(self, doc: dict) -> str:
            if "canonical_solution" in doc:
                return "\n    return None" if self.wrong else doc["canonical_solution"]
            return f" {doc['expression']} = {int(doc['answer']) + self.wrong}"

        def _encode_pair(self, context: str, continuation: str):
            return list(context), list(continuation)

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

    return Knowing


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_the_answers_scores_one_and_one_that_does_not_zero(load, knowing, name):
    """By the workflow's own handling of a task: loading, prompts, filters, sandbox, the table of items."""
    from colocate import evaluation
    from colocate.evaluation.items import summarise

    loaded = load(name)
    assert sorted(loaded) == sorted(SUBTASKS.get(name, [name]))
    for wrong, score in ((False, 1.0), (True, 0.0)):
        items, _ = evaluation._run(knowing(wrong), loaded, {"task": name}, chat=False)
        assert set(items["score"]) == {score}
        assert summarise(items)["accuracy"] == score
        assert len(items) == len(read(name, "test"))


@pytest.mark.parametrize("name", NAMES)
def test_splits_rows_and_groups(load, name):
    test, validation = read(name, "test"), read(name, "validation")
    documents = [document for task in load(name).values() for document in task.eval_docs]
    assert {row["id"] for row in documents} == {row["id"] for row in test}
    assert len(test) >= (32 if name == "mini_humaneval" else 64)
    assert len(validation) >= (16 if name == "mini_humaneval" else 32)
    assert not {row["id"] for row in test} & {row["id"] for row in validation}
    assert all(row["group"] and row["id"].startswith(name) for row in test + validation)
    assert len({row["group"] for row in test}) >= 16


def test_the_problems_of_mgsm_are_the_same_in_every_language():
    for split in ("test", "validation"):
        rows = read("mini_mgsm", split)
        problems = {}
        for row in rows:
            problems.setdefault(row["language"], set()).add((row["group"], row["expression"], row["answer"]))
        assert set(problems) == {"en", "es", "fr", "de"}
        assert len(set(map(frozenset, problems.values()))) == 1
        assert all(row["template"] == f"{row['group']}-{row['language']}" for row in rows)


def test_every_template_of_math_has_its_items_in_both_splits():
    test = Counter(row["template"] for row in read("mini_math", "test"))
    assert set(test.values()) == {4}
    assert Counter(row["template"] for row in read("mini_math", "validation")) == dict.fromkeys(test, 2)


def test_every_program_has_at_least_five_tests():
    for row in read("mini_humaneval", "test") + read("mini_humaneval", "validation"):
        calls = [line for line in row["test"].splitlines() if line.strip().startswith("assert candidate(")]
        assert len(set(calls)) >= 5, row["id"]


@pytest.fixture
def calibrate(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import calibrate

    yield calibrate
    for name in ("calibrate", "verify"):
        sys.modules.pop(name, None)


def test_the_calibration_draw_is_new_and_right(calibrate):
    for name in ("mini_math", "mini_mgsm"):
        test = read(name, "test")
        for row in test:
            drawn = calibrate.redraw(row, draw=0)
            assert drawn == calibrate.redraw(row, draw=0)
            assert drawn["question"] != row["question"]
            assert int(drawn["answer"]) == calibrate.value(drawn["expression"]) > 0
            numbers = re.findall(r"\d+", drawn["expression"])
            assert set(numbers) <= set(re.findall(r"\d+", drawn["question"]))
        translations = [calibrate.redraw(row, draw=1) for row in test if row["group"] == test[-1]["group"]]
        if name == "mini_mgsm":
            assert len({row["expression"] for row in translations}) == 1 < len(translations)


def test_the_calibration_covers_every_template_and_language():
    rows = list(csv.DictReader((FOLDER / "calibration.csv").open(encoding="utf-8")))
    found = {(row["benchmark"], row["template"], row["language"]) for row in rows}
    wanted = {
        (name, row["group"], row.get("language", "en"))
        for name in ("mini_math", "mini_mgsm")
        for row in read(name, "test")
    }
    assert found == wanted
    assert sum(int(row["n"]) for row in rows) > 500


@pytest.mark.parametrize("name", NAMES)
def test_nobody_can_take_them_for_the_published_benchmarks(load, name):
    for task in load(name).values():
        assert task.task_name.startswith("mini_")
        assert "not the published" in task.config.metadata["about"]
    assert "NOT the published" in (FOLDER / name / f"{name}.yaml").read_text()
    assert f"`{name}`" in (FOLDER / "README.md").read_text()


def test_few_shot_examples_are_the_first_of_the_validation_split(load):
    for name, task in load("mini_mgsm").items():
        context = task.fewshot_context(task.eval_docs[0], num_fewshot=2)
        shots = [row for row in task.dataset["validation"] if row["language"] == name[-2:]]
        assert context.count(shots[0]["answer_word"] + ":") == 3
        for shot in shots[:2]:
            assert f"{shot['question']}\n{shot['answer_word']}: {shot['expression']} = {shot['answer']}" in context


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (" 3 + 4 = 7", "7"),
        (" 12 * 6 = 72 square meters.", "72"),
        ("The answer is 1,250.", "1,250"),
        (" -3", "-3"),
        (" 2.50 dollars", "2.50"),
        ("none", "[invalid]"),
    ],
)
def test_the_last_number_of_an_answer_counts(load, answer, number):
    from lm_eval.api.instance import Instance

    (task,) = load("mini_math").values()
    request = Instance("generate_until", task.eval_docs[0], ("", {}), 0)
    request.resps = [answer]
    task._filters[0].apply([request])
    assert request.filtered_resps["last-number"] == number


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("name", NAMES)
def test_the_stock_program_scores_smollm2_as_the_workflow_does(smollm2, tmp_path, name):
    """`lm_eval --model hf --include_path data/benchmarks`, item by item, both in float32.

    Programs are safe in the stock program too: the task itself runs them in the project's sandbox, whatever started it.
    """
    from colocate.evaluation import evaluate

    settings = {"seed": 1234, "batch_size": 16, "sandbox": "auto"}
    entry = {"task": name, "limit": LIMIT[name]}
    summary, items = evaluate(
        smollm2, None, name, entry, settings, dtype="float32", device="cpu", benchmarks_dir=FOLDER
    )
    command = [str(Path(sys.executable).parent / "lm_eval"), "run", "--model", "hf", "--include_path", str(FOLDER)]
    command += ["--model_args", f"pretrained={smollm2},dtype=float32", "--device", "cpu", "--batch_size", "16"]
    command += ["--tasks", name, "--limit", str(LIMIT[name]), "--log_samples", "--output_path", str(tmp_path)]
    subprocess.run([*command, "--confirm_run_unsafe_code"], cwd=tmp_path, check=True, capture_output=True)
    stock = [
        sample[sample["metrics"][0]]
        for task in SUBTASKS.get(name, [name])
        for path in tmp_path.rglob(f"samples_{task}_*.jsonl")
        for sample in sorted(map(json.loads, path.read_text().splitlines()), key=lambda sample: sample["doc_id"])
    ]
    assert stock == items["score"].tolist()
    assert 0 < summary["accuracy"] == sum(stock) / len(stock) < 1
    (path,) = tmp_path.rglob("results_*.json")
    means = json.loads(path.read_text())["results"][name]
    assert summary["accuracy"] == pytest.approx(next(value for key, value in means.items() if key.startswith(METRICS)))


@pytest.mark.slow
def test_the_stock_program_runs_them(tmp_path):
    """`lm_eval --include_path data/benchmarks`, started elsewhere, with its own dummy model."""
    command = [str(Path(sys.executable).parent / "lm_eval"), "run", "--model", "dummy", "--include_path", str(FOLDER)]
    command += ["--tasks", ",".join(NAMES), "--limit", "2", "--confirm_run_unsafe_code", "--output_path", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (path,) = tmp_path.rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    assert set(NAMES) <= set(results)
