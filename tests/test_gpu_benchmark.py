"""benchmarks/gpu.py: each kind of stage runs on a tiny shape, and each row says what was measured and what was met."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks/gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", ["sensitivity", "rope", "lora_last", "loglikelihood", "answers"])
def test_a_stage_gives_speed_limit_and_memory(gpu, stage):
    one = gpu.measure(stage, "tiny", "bfloat16", "cpu", 0.02, 600)
    assert one["tokens_s"] > 0
    assert 0 < one["share"] < 1
    assert one["limit"] == pytest.approx(one["tokens_s"] / one["share"])
    assert one["peak_gib"] > 0.1


def test_garfa_is_part_of_our_training_and_not_of_the_next_one(gpu):
    before = gpu.training.adapted
    gpu.train("lora_last", "tiny", "float32", "cpu", 600)
    assert gpu.training.adapted is before


@pytest.mark.four_bit
@pytest.mark.parametrize("stage", ["loglikelihood", "answers"])
def test_in_4_bits_only_what_reads_packed_weights_has_no_limit(gpu, stage):
    one = gpu.measure(stage, "tiny", "nf4", "cpu", 0.02, 600)
    assert (one["share"] is None) == (one["limit"] is None) == (stage == "answers")


def one(speed, share=None) -> dict:
    return {"tokens_s": speed, "share": share, "limit": share and speed / share, "peak_gib": 20.5}


def run(gpu, capfd, found: dict, *arguments: str) -> tuple[int, list[str]]:
    """Exit status and rows of a run whose stages, each its own process elsewhere, find these numbers."""
    gpu.in_a_process = lambda stage, dtype, options: found.get((stage, dtype))
    status = gpu.main(["--shape", "tiny", "--device", "cpu", *arguments])
    return status, capfd.readouterr().out.splitlines()[4:]


@pytest.fixture
def restored(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "in_a_process", gpu.in_a_process)
    return gpu


def test_each_row_says_what_was_measured_and_what_was_met(restored, capfd):
    found = {("sensitivity", "bfloat16"): one(30000, 0.6), ("rope", "bfloat16"): one(100, 0.5)}
    found |= {("lora_last", "bfloat16"): one(9000, 0.3), ("trainer_last", "bfloat16"): one(5000, 0.2)}
    found |= {("loglikelihood", "nf4"): one(800, 0.7), ("answers", "nf4"): one(700)}
    stages = ["--stages", "sensitivity", "rope", "lora_last", "trainer_last"]
    status, rows = run(restored, capfd, found, "--dtypes", "bfloat16", *stages)
    assert rows == [
        "| sensitivity | bfloat16 | 30000 | 50000 | 60% | 20.5 | 50 %: met |",
        "| rope | bfloat16 | 100 | 200 | 50% | 20.5 | 50 %: met |",
        "| lora_last | bfloat16 | 9000 | 30000 | 30% | 20.5 | 50 %: MISSED |",
        "| trainer_last | bfloat16 | 5000 | 25000 | 20% | 20.5 | lora_last 1.80 times as fast, 1.5: met |",
    ]
    assert status == 1
    status, rows = run(restored, capfd, found, "--dtypes", "nf4", "--stages", "loglikelihood", "answers")
    assert rows == [
        "| loglikelihood | nf4 | 800 | 1143 | 70% | 20.5 | 50 %: met |",
        "| answers | nf4 | 700 | - | - | 20.5 | - |",
    ]
    assert status == 0


def test_a_stage_that_fails_is_noted_and_the_next_one_runs(restored, capfd):
    found = {("sensitivity", "bfloat16"): one(30000, 0.6)}
    status, rows = run(restored, capfd, found, "--dtypes", "bfloat16", "--stages", "rope", "sensitivity")
    assert rows[0] == "| rope | bfloat16 | FAILED | - | - | - | - |"
    assert rows[1].startswith("| sensitivity | bfloat16 | 30000 |")
    assert status == 1


def test_why_a_process_failed_is_on_stderr(gpu, capfd):
    options = SimpleNamespace(shape="nowhere", device="cpu", scale=1, tokens=1)
    assert gpu.in_a_process("rope", "bfloat16", options) is None
    assert "nowhere" in capfd.readouterr().err


def test_operations_of_a_shape_are_those_of_its_weights(gpu):
    shape = gpu.shape_of(gpu.training.load("tiny", "float32", "cpu"))
    assert shape == {"layers": 4, "body": 2 * 6 * 16 * 64 + 3 * 64 * 128, "head": 64 * 300}


def test_without_a_card_it_says_so(gpu, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here: nothing was measured"):
        gpu.main([])
