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
@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_a_job_is_at_its_first_forward_pass_in_time(benchmark, smollm2, tmp_path, kind):
    """Processor time, which a busy machine stretches least; on a quiet one it is the wall time."""
    adapter = benchmark.make_adapter(tmp_path, smollm2) if kind == "adapter" else None
    _, processor = benchmark.first_pass("colocate", adapter, real_datasets(), smollm2)
    assert processor <= benchmark.FIRST_PASS[kind]


@pytest.mark.slow
def test_the_whole_of_it_runs_and_prints_its_tables(benchmark, tiny_llama, capsys):
    some = ["--cases", "arc0", "first", "--limit", "2", "--repeats", "1", "--stock-sizes", "2"]
    status = benchmark.main([*some, "--datasets", str(real_datasets()), "--model", str(tiny_llama)])
    said = capsys.readouterr().out
    assert status == ("missed: " in said) == ("MISSED" in said)
    lines = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("|")]
    found = dict(zip(benchmark.COLUMNS, lines[2], strict=True))
    assert (found["case"], found["answers alike"], found["scores"]) == (
        "ARC-Challenge, 0 shots, 2 items", "2 of 2", "equal",
    )  # fmt: skip
    assert float(found["times as fast: processor"]) > 0
    firsts = {line[0]: line for line in lines if line[0] in benchmark.FIRST_PASS}
    assert set(firsts) == {"base", "adapter"}
    assert all(float(seconds) > 0 for line in firsts.values() for seconds in line[1:5])


def record(processor, answers, scores):
    return {"processor": processor, "wall": 2 * processor, "peak_mib": 900, "answers": answers, "scores": scores}


def test_the_report_gives_ratios_agreement_and_verdicts(benchmark):
    one = [[[[-1.0, False]], [[-2.0, False]]], [[[-3.0, False]], [[-2.5, True]]]]
    other = [[[[-1.00004, False]], [[-2.0, False]]], [[[-2.4, False]], [[-2.5, True]]]]
    records = {
        "stock": [record(30, one, {"acc": 0.5}), record(36, one, {"acc": 0.5})],
        "colocate": [record(10, other, {"acc": 0.5}), record(9, other, {"acc": 0.5})],
    }
    found = dict(zip(benchmark.COLUMNS, benchmark.report("mmlu", 4, records), strict=True))
    assert found["times as fast: processor"] == found["wall"] == "3.50 (3.00 to 4.00)"
    assert (found["processor s: colocate"], found["lm-eval hf"], found["its batch size"]) == ("9.5", "33.0", "4")
    assert (found["answers alike"], found["log-likelihoods within"], found["scores"]) == ("1 of 2", "6e-01", "equal")
    assert found["target"] == "3.0: met"
    assert benchmark.row(["a", "b"]) == "| a | b |"
    assert not benchmark.same(records)  # log-likelihoods are 0.6 apart
    records["colocate"][0]["answers"] = [[[[-1.00004, False]], [[-2.0, False]]], one[1]]
    assert benchmark.same(records)
    records["colocate"][0]["scores"] = {"acc": 1.0}
    assert not benchmark.same(records)
    records["colocate"][1]["processor"] = 30
    found = dict(zip(benchmark.COLUMNS, benchmark.report("mmlu", 4, records), strict=True))
    assert (found["scores"], found["target"]) == ("DIFFER", "3.0: MISSED")


def test_answers_in_words_are_compared_as_they_are(benchmark):
    sides = [{"answers": [[["a"]], [["b"]]]}, {"answers": [[["a"]], [["c"]]]}]
    assert benchmark.agreement(*sides) == (1, 2, 0.0)
