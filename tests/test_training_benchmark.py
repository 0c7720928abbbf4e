"""benchmarks/training.py: both sides train the same adapter, in every dtype, and the report says what was met."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "training.py"


@pytest.fixture(scope="module")
def benchmark():
    pytest.importorskip("accelerate")
    spec = importlib.util.spec_from_file_location("training_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", ["last", "all"])
def test_both_sides_train_the_same_adapter(benchmark, case):
    """Same start, order, batches, schedule: in float32 the held-out losses agree to rounding."""
    trainer, ours = (benchmark.measure(side, case, "tiny", "float32", "cpu", 3000, 0) for side in benchmark.SIDES)
    assert ours["loss"] == pytest.approx(trainer["loss"], abs=2e-4)
    assert ours["tokens"] == trainer["tokens"] > 2000
    assert 0 < ours["share"] < 1
    assert ours["peak_mib"] > 100


@pytest.mark.four_bit
def test_a_random_model_in_nf4_trains(benchmark):
    trainer, ours = (benchmark.measure(side, "last", "tiny", "nf4", "cpu", 1000, 0) for side in benchmark.SIDES)
    assert ours["loss"] == pytest.approx(trainer["loss"], abs=0.05)


def test_the_cost_of_garfa_is_measured_step_by_step(benchmark):
    assert len(benchmark.garfa_cost("tiny", "float32", "cpu", 3000, 0)["costs"]) == 3 * 1 - 1


def record(seconds, peak, loss):
    return {"tokens": 1000, "wall": 2 * seconds, "processor": seconds, "peak_mib": peak, "share": 0.5, "loss": loss}


def test_the_report_gives_ratios_with_their_spread_and_verdicts(benchmark):
    records = {
        ("trainer", "last"): [record(10, 900, 1.1), record(12, 910, 1.2)],
        ("colocate", "last"): [record(5, 900, 1.101), record(4, 905, 1.2)],
        ("trainer", "all"): [record(10, 900, 1.0), record(10, 900, 1.1)],
        ("colocate", "all"): [record(9, 1000, 1.0), record(8, 1000, 1.1)],
    }
    text = "\n".join(benchmark.report(records, [0.01, 0.015, 0.03], "tiny", "float32", "cpu", 1000))
    assert "2.50 (2.00 to 3.00) by processor time" in text
    assert "target 2.0: met" in text
    assert "1.18 (1.11 to 1.25) by processor time; 1.18 (1.11 to 1.25) by wall time; target 1.3: MISSED" in text
    assert "peak 905 against 910 MiB: met" in text
    assert "peak 1000 against 900 MiB: MISSED" in text
    assert "differs by +0.0010, +0.0000 (0.1000 between seeds)" in text
    assert "GARFA's own cost: +1.5%" in text


def test_every_run_is_printed_as_it_comes(benchmark, monkeypatch, capfd):
    """What a time limit, here of the last run, leaves."""
    left = iter([record(10, 900, 1.1), record(5, 900, 1.2)])

    def subprocess_run(*_):
        found = next(left, None)
        if found is None:
            raise SystemExit("no more")
        return found

    monkeypatch.setattr(benchmark, "subprocess_run", subprocess_run)
    with pytest.raises(SystemExit, match="no more"):
        benchmark.main(["--shape", "tiny", "--dtype", "float32"])
    rows = capfd.readouterr().out.splitlines()
    assert len(rows) == 4
    assert rows[2].endswith(", seed 0 | 50 | 100 | 50% | 900 | 1.1000 |")
