"""The bill before a run: sums by stage, arm and seed, wall time, disk, what claims need; forecast against actual."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from colocate import bill, compute, files, needs, plan, settling
from colocate import config as configuration
from colocate.errors import InputError
from colocate.report.bill import ledger

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m"


@pytest.fixture
def study(tmp_path, monkeypatch) -> dict:
    """The default study on cards, in a folder without earlier runs but with the project's data."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    return configuration.complete(values | {"device": "cuda", "prices": {"gpu_hour": 3.0, "cpu_hour": 0.1}})


def job(rule: str, **wildcards: str) -> dict:
    return {"rule": rule, "wildcards": {"model": MODEL} | wildcards}


JOBS = [
    job("prepare_model"),
    job("train_arm", arm="colocated", seed="0"),
    job("train_arm", arm="colocated", seed="1"),
    job("train_arm", arm="random", seed="0"),
    job("evaluate_arm", arm="base", seed="0", benchmark="mini_arc"),
    job("evaluate_arm", arm="random", seed="0", benchmark="gsm8k"),
    job("contrast_arms"),
]


def test_parts_add_up_to_the_whole(study):
    found = bill.lines(JOBS, study)
    for key in (lambda line: line.stage, lambda line: line.rule, lambda line: line.job.get("arm")):
        sums = bill.totals(found, key)
        assert sum(values[0] for values in sums.values()) == len(JOBS)
        assert sum(values[4] for values in sums.values()) == pytest.approx(sum(line.cost for line in found))
    assert bill.totals(found, lambda line: line.rule)["train_arm"][0] == 3


def test_models_pay_for_cards_and_the_rest_for_cores(study):
    found = {line.rule: line for line in bill.lines(JOBS, study)}
    assert found["train_arm"].cost == pytest.approx(found["train_arm"].seconds / 3600 * 3.0)
    assert found["contrast_arms"].cost == pytest.approx(found["contrast_arms"].seconds / 3600 * 0.1)
    assert not found["contrast_arms"].gpu
    assert found["contrast_arms"].tokens == 0
    assert found["train_arm"].tokens >= study["training"]["max_tokens"]


def test_each_benchmark_has_its_own_price(study):
    mini, published = (line for line in bill.lines(JOBS, study) if line.rule == "evaluate_arm")
    assert published.tokens > 10 * mini.tokens  # 1,319 items with long answers beside 64


def test_earlier_runs_correct_the_rates(study):
    before = bill.lines(JOBS, study)
    table = Path(f"logs/smollm2/train_arm/{MODEL}/late/seed0.tsv")
    table.parent.mkdir(parents=True)
    table.write_text(f"s\th:m:s\n{2 * plan.modelled_seconds('train_arm', study, 'cuda')}\t-\n")
    after = bill.lines(JOBS, study)
    for old, new in zip(before, after, strict=True):
        assert new.seconds == pytest.approx((2 if old.rule == "train_arm" else 1) * old.seconds)


def test_wall_time_falls_with_cards_down_to_the_longest_job(study):
    found = bill.lines(JOBS, study)
    walls = [bill.wall(found, cores=2, gpus=n) for n in (1, 2, 4, 1000)]
    assert walls == sorted(walls, reverse=True)
    longest = {}
    for line in found:
        longest[line.stage, line.gpu] = max(longest.get((line.stage, line.gpu), 0), line.seconds)
    assert walls[-1] == pytest.approx(sum(longest.values()))


def test_disk_counts_models_adapters_and_items(study):
    sizes = bill.disk(bill.lines(JOBS, study), study)
    assert sizes["models"] == 2 * plan.parameters(study["models"][MODEL]["geometry"])
    one = needs.trained_parameters(study, {"model": MODEL, "arm": "colocated"})
    assert sizes["adapters"] == pytest.approx(4 * 3 * one)
    assert 1.2e6 < one < 1.6e6  # 8 of 30 layers, rank 16, seven maps: 163 thousand a layer
    assert needs.trained_parameters(study, {"model": MODEL, "arm": "standard_lora"}) == one  # its budget
    assert needs.trained_parameters(study, {"model": MODEL, "arm": "garfa_sensitive"}) == 0


def test_a_full_fine_tune_leaves_all_of_the_model(study):
    arms = study["arms"] | {"full": {"full": True}}
    found = needs.trained_parameters(study | {"arms": arms}, {"model": MODEL, "arm": "full"})
    assert found == plan.parameters(study["models"][MODEL]["geometry"])


def test_the_text_has_every_part(study):
    said = bill.text(bill.lines(JOBS, study), study, cores=2, gpus=4)
    for part in ("by stage", "by arm", "by seed", "Where the money goes", "on 1 GPU at a time", "on 4 GPUs at a time"):
        assert part in said
    assert "the paper states 100 US dollars" in said
    assert "not measured" in said
    assert "budget" not in said
    study["budget"]["cost"] = 0.0001
    assert "more than budget.cost" in bill.text(bill.lines(JOBS, study), study, cores=2, gpus=4)


def test_nothing_left_is_said_and_claims_are_still_told(study):
    said = bill.text([], study, cores=2, gpus=1)
    assert "nothing is left to run" in said
    assert "To settle each claim" in said


def test_configs_merge_as_snakemake_merges_them(study):
    Path("a.yaml").write_text((ROOT / "config/config.yaml").read_text())
    Path("b.yaml").write_text("seeds: [5]\ntraining: {epochs: 7}\n")
    merged = bill.merged(["a.yaml", "b.yaml"], device="cpu")
    assert (merged["seeds"], merged["training"]["epochs"], merged["device"]) == ([5], 7, "cpu")
    assert merged["training"]["max_length"] == 512
    with pytest.raises(InputError, match="nowhere.yaml"):
        bill.merged(["nowhere.yaml"])
    Path("config").mkdir()
    Path("a.yaml").rename("config/config.yaml")  # which is read first, named or not
    assert bill.merged(["b.yaml"], device="cpu") == merged == bill.merged(["config/config.yaml", "b.yaml"], "cpu")


def test_the_command_counts_the_jobs_of_a_dry_run(checkout):
    checkout.configfiles.append("config/ci.yaml")
    command = [sys.executable, "-m", "colocate.bill", "--device", "cuda", "--gpus", "4"]
    done = subprocess.run(
        [*command, "--configfile", *checkout.configfiles],
        cwd=checkout.folder,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if len(line.split()) == 6}
    assert rows["train"][1] == "3"
    assert rows["evaluate"][1] == str(2 * 4)
    assert rows["train"][4] != "0.00"  # GPU hours
    assert "Reasons:" not in done.stdout
    assert "Colocate, study ci" in done.stdout


def test_a_wrong_config_is_one_message(checkout):
    checkout.overlay("wrong", {"training": {"epoch": 3}})
    command = [sys.executable, "-m", "colocate.bill", "--configfile", *checkout.configfiles]
    done = subprocess.run(command, cwd=checkout.folder, env=checkout.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "did you mean epochs?" in done.stderr
    assert "Traceback" not in done.stderr


# ---- claims


def test_more_seeds_are_asked_for_with_their_price(study):
    study["select"]["benchmarks"] = ["mmlu", "gsm8k"]
    said = "\n".join(settling.text(study, {MODEL: (2.0, 10.0)}))
    seen, basis = settling.smallest_effect(study, MODEL, "the composite", 2)
    assert basis == "before a run"
    assert 4 < seen < 6
    enough = next(k for k in range(3, 99) if settling.smallest_effect(study, MODEL, "the composite", k)[0] <= 4)
    assert f"{enough} seeds, {2.0 * (enough - 2):.1f} hours and {10.0 * (enough - 2):.2g} USD more" in said
    assert "alphas above 1: lacks 6 seeds (here 2), 8.0 hours and 40 USD more" in said


def test_an_earlier_run_counts_before_the_formula(study):
    path = Path(f"results/smollm2/{MODEL}/statistics/power.csv")
    path.parent.mkdir(parents=True)
    rows = {"benchmark": ["composite"] * 3, "outcome": ["accuracy"] * 3, "n_seeds": [2] * 3, "mde": [0.01, 0.02, 0.09]}
    pd.DataFrame(rows).to_csv(path, index=False)
    assert settling.smallest_effect(study, MODEL, "the composite", 2) == (2.0, "median contrast of an earlier run")
    assert settling.smallest_effect(study, MODEL, "the composite", 8)[0] == pytest.approx(1.0)
    assert any("sees 2.0 points" in line and line.endswith("enough") for line in settling.text(study, {}))


def test_what_no_number_of_seeds_shows_asks_for_items(study):
    said = "\n".join(settling.text(study, {}))
    assert "items in all and" in said


# ---- after a run


def record(folder: Path, name: str, **changes) -> Path:
    values = {"rule": "train_arm", "label": name, "seconds": 100.0, "threads": 2, "device": "cpu", "dtype": "bfloat16"}
    values |= {"peak_memory_mib": {"cpu": 500.0, "gpu": None}, "cpu_seconds": 150.0, "joules": None}
    path = folder / f"results/s/m/{name}.run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values | changes))
    return path


def test_forecast_and_actual_of_each_rule(study, tmp_path):
    gpu = {"device": "cuda", "gpu_utilisation": 0.5, "joules": 3000.0}
    records = [
        record(tmp_path, "a"),
        record(tmp_path, "b", seconds=300.0, cpu_seconds=600.0),
        record(tmp_path, "c", rule="evaluate_arm", **gpu),
        record(tmp_path, "d", rule="evaluate_arm", seconds=300.0, **(gpu | {"gpu_utilisation": 0.9})),
    ]
    prices = {"gpu_hour": 3.6, "cpu_hour": 0.36, "currency": "USD"}
    each = {"cuda": 10.0, "float32": 70.0, "bfloat16": 50.0}
    expected = {"train_arm": each, "evaluate_arm": each, "profile_arm": each}
    stages = {"train_arm": "train", "evaluate_arm": "evaluate", "profile_arm": "arm profiles"}
    table = compute.forecast(compute.collect(records, prices), expected, stages, prices).set_index("rule")
    assert list(table.index) == ["train_arm", "evaluate_arm"]
    train, evaluate = table.loc["train_arm"], table.loc["evaluate_arm"]
    assert (train["stage"], train["jobs"], train["forecast_seconds"], train["seconds"]) == ("train", 2, 100, 400)
    assert train["gpu_seconds"] == 0
    assert pd.isna(train["joules"])
    assert train["forecast_cost"] == pytest.approx(100 * 2 * 0.36 / 3600)
    assert train["cost"] == pytest.approx(400 * 2 * 0.36 / 3600)
    assert train["utilisation"] == pytest.approx((75 + 300) / 400)
    assert (evaluate["forecast_seconds"], evaluate["gpu_seconds"], evaluate["joules"]) == (20, 400, 6000)
    assert evaluate["utilisation"] == pytest.approx((0.5 * 100 + 0.9 * 300) / 400)
    assert evaluate["cost"] == pytest.approx(400 * 3.6 / 3600)


OTHERS = {"draw_figure": ["m/alphas", "m/arms"], "check_pairs": [""], "fetch_benchmark": ["org/data"]}


def test_every_job_has_a_row_and_a_lost_record_no_numbers(study, tmp_path):
    declared = record(tmp_path, "a")
    for place, rule in (("logs/s/draw_figure/m/alphas", "draw_figure"), ("logs/s/check_pairs", "check_pairs")):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        record(tmp_path, "moved", rule=rule, seconds=36.0, device=None).rename(f"{place}.run.json")
    others = compute.undeclared(OTHERS, "logs/s")
    assert Path("resources/datasets/org/data.run.json") in others
    prices = {"gpu_hour": 3.6, "cpu_hour": 0.36, "currency": "USD"}
    table = compute.collect([declared], prices, others).set_index("rule")
    assert list(table.index) == ["train_arm", "draw_figure", "draw_figure", "check_pairs", "fetch_benchmark"]
    assert table["seconds"].tolist()[:2] == [100.0, 36.0]
    assert table["seconds"].isna().tolist() == [False, False, True, False, True]
    assert table["cost"].iloc[3] == pytest.approx(2 * 36 * 0.36 / 3600)
    assert table["label"].iloc[2] == "draw_figure m arms"
    assert table["model"].fillna("").iloc[1:].tolist() == ["m", "m", "", ""]
    said = ledger(table.reset_index(), finished=True)
    assert said.startswith("In the bill: 5 of the study's 9 jobs.")
    assert said.endswith("because their records are lost: 1 draw figure, 1 fetch benchmark.")
    assert ledger(table.reset_index(), finished=False) == "In the bill: 5 jobs that have ended."


def test_minutes_by_rule_with_the_jobs_after_the_bill(study, tmp_path, capsys):
    prices = {"gpu_hour": 3.6, "cpu_hour": 0.36, "currency": "USD"}
    records = [record(tmp_path, "a"), record(tmp_path, "b", seconds=200.0)]
    files.write_csv("results/s/compute.csv", compute.collect(records, prices, compute.undeclared(OTHERS, "logs/s")))
    Path("logs/s").mkdir(parents=True)
    record(tmp_path, "moved", rule="write_report", seconds=60.0).rename("logs/s/write_report.run.json")
    assert compute.main([]) == 0
    said = capsys.readouterr().out
    rows = {rule: (n, took) for rule, n, took in re.findall(r"^(\w+) +(\d+) +([\d.]+)$", said, re.M)}
    assert rows["train_arm"] == ("2", "5.00")
    assert rows["write_report"] == ("1", "1.00")
    assert rows["all"] == ("7", "6.00")
    assert "Not measured: 1 check_pairs, 2 draw_figure, 1 fetch_benchmark" in said
    assert compute.main(["other"]) == 1
    assert "other/compute.csv: no such file; finished studies here: s" in capsys.readouterr().err


def test_what_jobs_ran_on_and_when(tmp_path):
    one = record(tmp_path, "a", device="cpu", versions={"torch": "2.13.0", "numpy": "2.4.6"}, host_machine="x86_64")
    two = record(tmp_path, "b", device="cpu", versions={"torch": "2.12.0"}, host_machine="x86_64", seconds=50.0)
    host = record(tmp_path, "c", device=None, versions={"numpy": "2.4.6"}, seconds=1.0)
    for path, end in ((one, 1_000_000), (two, 1_000_500), (host, 1_000_100)):
        os.utime(path, (end, end))
    found = compute.environment([one, two, host])
    assert found["versions"] == {"numpy": ["2.4.6"], "torch": ["2.12.0", "2.13.0"]}
    (machine,) = found["machines"]
    assert (machine["host_machine"], machine["device"], machine["jobs"]) == ("x86_64", "cpu", 2)
    assert found["begin"] == "1970-01-12T13:45:00+00:00"  # 1,000,000 s less the 100 s of its job
    assert found["end"] == "1970-01-12T13:55:00+00:00"
    with pytest.raises(InputError, match="no run record"):
        compute.environment([])


def test_records_of_before_say_nothing_of_utilisation(study, tmp_path):
    old = record(tmp_path, "a", cpu_seconds=None)
    prices = {"gpu_hour": 1.0, "cpu_hour": 1.0, "currency": "USD"}
    table = compute.forecast(compute.collect([old], prices), **plan.forecast(study), prices=prices)
    assert pd.isna(table["utilisation"].iloc[0])
    assert table["forecast_seconds"].iloc[0] > 0
