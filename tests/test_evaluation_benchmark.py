"""benchmarks/evaluation.py: both sides answer alike on a tiny model, random shapes run, the report is right."""

import importlib.util
import json
from pathlib import Path

import pytest

from evaluating import real_datasets

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "evaluation.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("evaluation_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", ["arc0", "gsm8k", "mgsm"])
def test_both_sides_answer_alike(benchmark, tiny_llama, case):
    changes = {"limit": 2, "max_new_tokens": 8}
    where = (2, real_datasets(), tiny_llama, "float32")
    sides = [benchmark.measure(side, case, *where, **changes) for side in benchmark.SIDES]
    alike, count, worst = benchmark.agreement(*sides)
    assert alike == count == 2
    assert worst < 1e-4
    assert sides[0]["scores"] == sides[1]["scores"]
    assert min(side["processor"] for side in sides) > 0
    json.dumps(sides)


def test_every_case_names_a_task_of_the_harness(benchmark):
    import lm_eval.tasks

    texts = "".join(path.read_text() for path in Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"))
    for _, task, least in benchmark.CASES.values():
        assert f"{task['task']}" in texts
        assert least >= 1.5


@pytest.mark.parametrize("side", ["stock", "colocate"])
def test_a_shape_runs_with_made_up_tokens(benchmark, side):
    found = benchmark.throughput(side, "tiny", "float32", "cpu", 2, scale=0.05)
    assert found["answers"]["tokens"] == 4 * 12
    assert found["loglikelihood"]["tokens"] == 4 * (35 + 4)
    assert all(one["tokens_s"] > 0 for one in found.values())
    assert 0 < found["answers"]["share"] < 1
    assert ("share" in found["loglikelihood"]) == (side == "colocate")


@pytest.mark.smollm2
@pytest.mark.parametrize(("kind", "garfa"), [("base", None), ("adapter", ())])
def test_a_job_is_at_its_first_forward_pass_in_time(benchmark, smollm2, tmp_path, monkeypatch, kind, garfa):
    """Processor time, which a busy machine stretches least; on a quiet one it is the wall time."""
    monkeypatch.setattr(benchmark, "MODEL", smollm2)
    adapter = None if garfa is None else benchmark.make_adapter(tmp_path)
    _, processor = benchmark.first_pass("colocate", adapter, real_datasets())
    assert processor <= benchmark.FIRST_PASS[kind]


def record(processor, answers, scores):
    return {"processor": processor, "wall": 2 * processor, "peak_mib": 900, "answers": answers, "scores": scores}


def test_the_report_gives_ratios_agreement_and_verdicts(benchmark):
    one = [[[[-1.0, False]], [[-2.0, False]]], [[[-3.0, False]], [[-2.5, True]]]]
    other = [[[[-1.00004, False]], [[-2.0, False]]], [[[-2.4, False]], [[-2.5, True]]]]
    records = {
        "stock": [record(30, one, {"acc": 0.5}), record(36, one, {"acc": 0.5})],
        "colocate": [record(10, other, {"acc": 0.5}), record(9, other, {"acc": 0.5})],
    }
    text = "\n".join(benchmark.report("mmlu", 4, records))
    assert "stock with batches of 4" in text
    assert "processor time: 3.50 times as fast (3.00 to 4.00), 33.0 against 9.5 s" in text
    assert "1 of 2 predictions alike, log-likelihoods within 6.0e-01, scores equal" in text
    assert "target 3.0: met" in text
    records["colocate"][0]["scores"] = {"acc": 1.0}
    records["colocate"][1]["processor"] = 30
    text = "\n".join(benchmark.report("mmlu", 4, records))
    assert "scores DIFFER" in text
    assert "target 3.0: MISSED" in text


def test_answers_in_words_are_compared_as_they_are(benchmark):
    sides = [{"answers": [[["a"]], [["b"]]]}, {"answers": [[["a"]], [["c"]]]}]
    assert benchmark.agreement(*sides) == (1, 2, 0.0)
