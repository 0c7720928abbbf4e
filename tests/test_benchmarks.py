"""The built-in mini benchmarks: gold answers, and a model that knows them scores 1."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
NAMES = ["mini_mmlu", "mini_gpqa", "mini_humaneval", "mini_math", "mini_mgsm", "mini_arc"]
SUBTASKS = {"mini_mgsm": [f"mini_mgsm_{language}" for language in ("en", "es", "fr", "de")]}


@pytest.fixture(scope="module")
def verify():
    spec = importlib.util.spec_from_file_location("verify", FOLDER / "verify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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

        def loglikelihood(self, requests):
            return [
                (-1.0 if (request.idx == request.doc["answer"]) != self.wrong else -9.0, False) for request in requests
            ]

        def generate_until(self, requests):
            return [self._answer(request.doc) for request in requests]

        def _answer(self, doc: dict) -> str:
            if "canonical_solution" in doc:
                return "\n    return None" if self.wrong else doc["canonical_solution"]
            return f" {doc['expression']} = {int(doc['answer']) + self.wrong}"

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

    return Knowing


def scores(model, loaded: dict) -> dict:
    """{task: scores of its items}, by the harness."""
    from lm_eval import evaluator

    results = evaluator.evaluate(model, {"tasks": loaded}, bootstrap_iters=0, confirm_run_unsafe_code=True)
    return {
        name: [sample[next(iter(task.aggregation()))] for sample in results["samples"][name]]
        for name, task in loaded.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_gold_answers_hold_when_recomputed(verify, name):
    assert verify.problems(name) == []


def test_verification_notices_errors(verify, monkeypatch):
    good = verify.read("mini_math")["test"][0]
    assert verify._number(good | {"answer": "1000"})
    assert verify._number(good | {"question": "How many?"})
    choice = verify.read("mini_mmlu")["test"][0]
    assert verify._choice(choice | {"choices": ["a", "b", "c", "C"]})
    assert verify._choice(choice | {"choices": ["7", "8", "9", "10"], "answer": 0, "expression": "2 * 4"})
    program = verify.read("mini_humaneval")["test"][0]
    assert verify._program(program | {"canonical_solution": "\n    return 'wrong'"})
    assert verify._program(program | {"test": "def check(candidate):\n    pass\n"})


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_the_answers_scores_one_and_one_that_does_not_zero(load, knowing, name):
    loaded = load(name)
    assert sorted(loaded) == sorted(SUBTASKS.get(name, [name]))
    assert all(set(values) == {1.0} for values in scores(knowing(), loaded).values())
    assert all(set(values) == {0.0} for values in scores(knowing(wrong=True), loaded).values())


@pytest.mark.parametrize("name", NAMES)
def test_splits_rows_and_groups(load, verify, name):
    splits = verify.read(name)
    tests = [document for task in load(name).values() for document in task.eval_docs]
    assert {row["id"] for row in tests} == {row["id"] for row in splits["test"]}
    assert len(tests) >= 24 or name == "mini_humaneval" and len(tests) >= 16
    assert len(splits["validation"]) >= 6
    assert all(row["group"] and row["id"].startswith(name) for split in splits.values() for row in split)
    if name != "mini_humaneval":
        assert len({row["group"] for row in splits["test"]}) >= 16


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
        for shot in shots:
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
def test_the_stock_program_runs_them(tmp_path):
    """`lm_eval --include_path data/benchmarks`, started elsewhere, with its own dummy model."""
    command = [str(Path(sys.executable).parent / "lm_eval"), "run", "--model", "dummy", "--include_path", str(FOLDER)]
    command += ["--tasks", ",".join(NAMES), "--limit", "2", "--confirm_run_unsafe_code", "--output_path", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (path,) = tmp_path.rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    assert set(NAMES) <= set(results)
