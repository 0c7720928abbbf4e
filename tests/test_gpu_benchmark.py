"""benchmarks/gpu.py: each kind of stage runs on a tiny shape, and the table says what was measured and what was met."""

import importlib.util
import sys

import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks/gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", ["sensitivity", "rope", "lora_last"])
def test_a_stage_gives_speed_limit_and_memory(gpu, stage):
    (one,) = gpu.measure(stage, "tiny", "bfloat16", "cpu", 0.02, 600).values()
    assert one["tokens_s"] > 0
    assert 0 < one["share"] < 1
    assert one["limit"] == pytest.approx(one["tokens_s"] / one["share"])
    assert one["peak_gib"] > 0.1


def test_garfa_is_part_of_our_training_and_not_of_the_next_one(gpu):
    before = gpu.training.adapted
    gpu.train("lora_last", "tiny", "float32", "cpu", 600)
    assert gpu.training.adapted is before


def test_the_table_names_the_card_and_judges_each_target(gpu):
    def one(speed, share=None):
        return {"tokens_s": speed, "share": share, "limit": share and speed / share, "peak_gib": 20.5}

    stages = {"sensitivity": one(30000, 0.6), "lora_last": one(9000, 0.3), "trainer_last": one(5000, 0.2)}
    text = "\n".join(gpu.table({"bfloat16": stages, "nf4": {"answers": one(700)}}, "llama31-8b", "Card X"))
    assert "llama31-8b, random weights, on Card X" in text
    assert "| sensitivity | bfloat16 | 30000 | 50000 | 60% | 20.5 |" in text
    assert "| answers | nf4 | 700 | - | - | 20.5 |" in text
    assert "sensitivity, bfloat16: 60% of the limit, target 50 %: met" in text
    assert "lora_last, bfloat16: 30% of the limit, target 50 %: MISSED" in text
    assert "lora_last, bfloat16: 1.80 times the Trainer, target 1.5: met" in text


def test_operations_of_a_shape_are_those_of_its_weights(gpu):
    shape = gpu.shape_of(gpu.training.load("tiny", "float32", "cpu"))
    assert shape == {"layers": 4, "body": 2 * 6 * 16 * 64 + 3 * 64 * 128, "head": 64 * 300}


def test_without_a_card_it_says_so(gpu, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here: nothing was measured"):
        gpu.main([])
