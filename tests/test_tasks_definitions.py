"""Task definitions: found without lm-eval's whole index, built with what they need, or refused by name."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from colocate.errors import InputError
from colocate.evaluation import definitions, tasks
from evaluating import mirror, run
from references import BENCHMARKS, load
from test_evaluation_tasks import arc

ARC = {"task": "arc_easy", "source": "allenai/ai2_arc"}
NAMES = {  # name -> its tasks
    "mmlu": 57,
    "mmlu_anatomy": 1,
    "mmlu_stem": 19,
    "gpqa_main_zeroshot": 1,
    "gpqa_main_n_shot": 1,
    "humaneval_plus": 1,
    "humaneval_instruct": 1,
    "hendrycks_math": 7,
    "hendrycks_math500": 1,
    "minerva_math": 7,
    "mgsm_direct": 11,
    "mgsm_native_cot_th": 1,
    "mgsm_cot_native": 22,  # lm-eval gives its English and its native chains of thought this one tag
    "arc_challenge": 1,
    "ai2_arc": 2,
    "gsm8k": 1,
    "ifeval": 1,
    "bbh_zeroshot": 27,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_groups_and_tags_are_resolved_to_tasks(name):
    found = definitions.find(name, None)
    assert len({entry.name for entry, _ in found}) == len(found) == NAMES[name]


def test_the_definitions_are_those_of_the_whole_index():
    """With mmlu, whose subjects get what the groups around them say, as the stand-in for all."""
    from lm_eval.tasks import TaskManager

    folder = definitions._root() / "mmlu" / "default"
    whole = TaskManager(include_path=[folder], include_defaults=False).task_index
    for entry, overrides in definitions.find("mmlu", None):
        assert entry.cfg == whole[entry.name].cfg
        assert overrides == {}


@pytest.mark.parametrize("name", ["mmlu", "arc_easy", "gsm8k", "hendrycks_math", "mgsm_direct", "humaneval_plus"])
def test_a_definition_is_found_in_a_fraction_of_a_second(name):
    import lm_eval.tasks  # noqa: F401 (its import is not what is measured)

    best = 9.0
    for _ in range(3):
        start = time.process_time()
        definitions.find(name, None)
        best = min(best, time.process_time() - start)
    assert best < 0.4


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="no task, group or tag 'arc_moon' in"):
        definitions.find("arc_moon", None)
    with pytest.raises(InputError, match=r"mini_moon.*found mini_arc.*set `source` to the hub id .* path of its YAML"):
        definitions.find("mini_moon", BENCHMARKS)
    with pytest.raises(InputError, match=r"task none.yaml: no such file"):
        definitions.find("none.yaml", BENCHMARKS)
    (tmp_path / "empty.yaml").write_text("{}")
    with pytest.raises(InputError, match=r"empty.yaml: it has no key `task`, or no `group`"):
        definitions.find(str(tmp_path / "empty.yaml"), BENCHMARKS)


def test_a_task_is_not_run_on_data_of_another(tmp_path):
    mirror(tmp_path, "openai/gsm8k", "main", "test", [{"question": "q", "answer": "a"}])
    with pytest.raises(InputError, match="arc_easy: source: found openai/gsm8k; its data set is allenai/ai2_arc"):
        load(ARC | {"source": "openai/gsm8k"}, tmp_path, tmp_path / "cache")


def test_a_subset_is_named_by_configuration_task_or_pattern():
    def names(task: str, *wanted: str) -> list[str]:
        found = tasks._subset(definitions.find(task, None), {"task": task, "subset": list(wanted)})
        return sorted(entry.name for entry, _ in found)

    assert names("mmlu", "anatomy", "mmlu_virology") == ["mmlu_anatomy", "mmlu_virology"]
    assert names("hendrycks_math", "algebra") == ["hendrycks_math_algebra"]
    assert names("mgsm_direct", "de", "th") == ["mgsm_direct_de", "mgsm_direct_th"]
    assert len(names("mgsm_cot_native", "mgsm_native_cot_*")) == 11
    with pytest.raises(InputError, match=r"subset of mmlu: found 'alchemy'; allowed: .*abstract_algebra"):
        names("mmlu", "anatomy", "alchemy")


# ------------------------------------------------------------------------------------------------------- YAML of yours

MINE = """
task: my_task
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{ask}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 7}}
"""


def test_a_yaml_of_yours_is_a_benchmark(tiny_llama, tmp_path):
    rows = [{"ask": f"Is {i} even?", "answer": i % 2} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.yaml").write_text(MINE.format(folder=tmp_path))
    summary, items = run(tiny_llama, {"task": str(tmp_path / "mine.yaml")})
    assert (summary["n"], summary["version"], summary["status"]) == (4, {"my_task": "7"}, "ok")
    assert list(items["prompt"]) == [row["ask"] for row in rows]


def test_a_yaml_of_yours_may_change_one_of_lm_eval_s_and_group_its_tasks(tmp_path):
    for split in ("train", "test"):
        mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", split, [arc(number) for number in range(3)])
    stock = definitions._root() / "arc" / "arc_easy.yaml"
    (tmp_path / "a.yaml").write_text(f'include: {stock}\ntask: my_arc\ndoc_to_text: "{{{{question}}}} So:"\n')
    entry = {"task": str(tmp_path / "a.yaml"), "source": "allenai/ai2_arc"}
    (task,) = load(entry, tmp_path, tmp_path / "cache").values()
    assert task.doc_to_text(task.eval_docs[0]) == "Question 0? So:"
    (tmp_path / "b.yaml").write_text("group: both\ntask: [my_arc, {task: arc_easy, num_fewshot: 2}]\n")
    loaded = load(entry | {"task": str(tmp_path / "b.yaml")}, tmp_path, tmp_path / "cache")
    assert {name: task.config.num_fewshot for name, task in loaded.items()} == {"my_arc": None, "arc_easy": 2}
    (tmp_path / "c.yaml").write_text("group: inline\ntask: [{task: new, dataset_path: json}]\n")
    with pytest.raises(InputError, match="group inline defines tasks inside itself; name its tasks one by one"):
        load(entry | {"task": str(tmp_path / "c.yaml")}, tmp_path, tmp_path / "cache")
    (tmp_path / "d.yaml").write_text("group: lost\ntask: [arc_moon]\n")
    with pytest.raises(InputError, match="group lost names arc_moon, which nothing defines"):
        load(entry | {"task": str(tmp_path / "d.yaml")}, tmp_path, tmp_path / "cache")


def test_items_are_scored_by_the_first_metric_that_is_their_mean(tmp_path):
    rows = [{"ask": f"Is {i} even?", "answer": i % 2} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    accuracy = "{metric: acc, aggregation: mean, higher_is_better: true}"
    f1 = "{metric: f1, aggregation: f1, higher_is_better: true}"

    def score(*metrics: str, **keys) -> tuple[str, str]:
        text = MINE.format(folder=tmp_path).replace(accuracy, ", ".join(metrics))
        (tmp_path / "mine.yaml").write_text(text)
        entry = {"task": str(tmp_path / "mine.yaml")} | keys
        (task,) = load(entry, tmp_path, tmp_path / "cache").values()
        return tasks.score_of(task, entry)

    assert score(f1, accuracy) == ("acc", "none")
    assert score(accuracy, accuracy.replace("acc,", "acc_norm,"), metric="acc_norm") == ("acc_norm", "none")
    with pytest.raises(InputError, match="task my_task: none of its metrics is the mean .*; found f1; set `metric`"):
        score(f1)
    with pytest.raises(InputError, match="task my_task: metric: found 'acc_norm'; allowed: acc"):
        score(accuracy, metric="acc_norm")
    with pytest.raises(InputError, match="task my_task: filter: found 'strict-match'; allowed: none"):
        score(accuracy, filter="strict-match")


# --------------------------------------------------------------------------------------------------- programs, packages


def test_programs_outside_the_sandbox_are_refused_before_anything_runs(tmp_path):
    (stock, _), *_ = definitions.find("mbpp", None)
    with pytest.raises(InputError, match="task mbpp runs generated programs with code of its own, outside the sandbox"):
        definitions.build(stock, {}, 0)
    (tmp_path / "own.py").write_text("raise SystemExit('this file was run')\n")
    text = "task: own\nunsafe_code: true\noutput_type: generate_until\n"
    for scored in ("metric_list: [{metric: !function own.score}]", "process_results: !function own.score"):
        (tmp_path / "own.yaml").write_text(f"{text}{scored}\n")
        ((entry, _),) = definitions.find(str(tmp_path / "own.yaml"), BENCHMARKS)
        with pytest.raises(InputError, match="task own runs generated programs"):
            definitions.build(entry, {}, 0)


@pytest.mark.parametrize(
    ("name", "absent", "says"),
    [
        (
            "minerva_math_algebra",
            {"math_verify", "antlr4"},
            "needs math_verify, antlr4; install .*: math-verify antlr4",
        ),
        ("ifeval", {"langdetect"}, "task ifeval needs langdetect; install into the environment: langdetect immutable"),
    ],
)
def test_packages_that_a_task_needs_are_named(monkeypatch, name, absent, says):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module in absent else object())
    ((entry, _),) = definitions.find(name, None)
    with pytest.raises(InputError, match=says):
        definitions.build(entry, {}, 0)


def test_hendrycks_math_needs_none_of_these(tmp_path):
    rows = [{"problem": "1 + 1?", "solution": r"It is $\boxed{2}$.", "level": "1", "type": "Algebra"}]
    for split in ("train", "test"):
        mirror(tmp_path, "EleutherAI/hendrycks_math", "algebra", split, rows)
    entry = {"task": "hendrycks_math", "subset": ["algebra"], "source": "EleutherAI/hendrycks_math"}
    (task,) = load(entry, tmp_path, tmp_path / "cache").values()
    assert task.process_results(task.eval_docs[0], ["$2$"]) == {"exact_match": 1}


# ----------------------------------------------------------------------------------------------------------- randomness


def test_pinned_processing_depends_on_the_seed_alone_and_leaves_the_generators_alone(monkeypatch):
    def shuffled(numbers):
        return random.sample(numbers, 20), np.random.permutation(20).tolist(), own.random()  # noqa: NPY002

    numbers, results = list(range(20)), []
    own = random.Random(0)
    monkeypatch.setitem(globals(), "OWN_GENERATOR", own)
    for state in (0, 1):
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002
        expected = random.Random(state).random()
        results.append([definitions.pinned(shuffled, seed)(numbers) for seed in (5, 6)])
        assert random.random() == expected
    assert results[0] == results[1]
    assert results[0][0] != results[0][1]


def test_documents_that_change_between_readings_are_refused(tmp_path):
    (tmp_path / "own.py").write_text(
        "import itertools\nfrom datasets import Dataset\ncount = itertools.count()\n"
        "def process(rows):\n    return Dataset.from_list([{'ask': str(next(count)), 'answer': 0}])\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"ask": "a", "answer": 0}\n')
    text = MINE.format(folder=tmp_path) + "process_docs: !function own.process\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match="my_task: its documents differ from one reading to the next"):
        load({"task": str(tmp_path / "mine.yaml")}, tmp_path, tmp_path / "cache")


# ----------------------------------------------------------------------------------------------------- what is recorded


def test_the_digest_of_the_data_is_that_of_its_rows(tiny_llama, tmp_path):
    import pandas as pd

    rows = [arc(number) for number in range(4)]
    for name, values in (("lines", rows), ("parquet", rows), ("other", [rows[1], rows[0], *rows[2:]])):
        for split in ("train", "test"):
            mirror(tmp_path / name, "allenai/ai2_arc", "ARC-Easy", split, values)
    folder = tmp_path / "parquet/allenai/ai2_arc"
    for path in list(folder.glob("*.jsonl")):
        pd.DataFrame(rows).to_parquet(path.with_suffix(".parquet"))
        path.unlink()
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace(".jsonl", ".parquet"))
    digests = {
        name: tasks.data_digest(load(ARC, tmp_path / name, tmp_path / "cache" / name))
        for name in ("lines", "parquet", "other")
    }
    assert digests["lines"] == digests["parquet"] != digests["other"]
    shots = load(ARC | {"num_fewshot": 1}, tmp_path / "lines", tmp_path / "cache/shots")
    assert tasks.data_digest(shots) != digests["lines"]  # the examples' rows count too
    summary, _ = run(tiny_llama, ARC | {"limit": 1}, datasets_dir=Path(tmp_path / "lines"))
    assert summary["data_digest"] == digests["lines"]
    assert {"version", "prompt_hash", "data_digest"} <= summary.keys()
    assert summary["settings"]["seed"] == 1234
