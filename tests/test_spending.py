"""A budget stops a job before it starts; what is finished is kept, and jobs that died take no room."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from colocate import spending
from colocate.errors import InputError

PRICES = {"gpu_hour": 2.0, "cpu_hour": 0.1, "currency": "EUR"}


@pytest.fixture
def budget(tmp_path, monkeypatch):
    """Set a limit for a study in an empty folder; one training is expected to cost 3."""
    monkeypatch.chdir(tmp_path)

    def limit(cost: float, **expected: float) -> None:
        rules = {"train_arm": 3.0} | expected
        each = {rule: {"m": {"": price}} for rule, price in rules.items()}
        monkeypatch.setenv(spending.VARIABLE, spending.describe("s", cost, PRICES, each, ["m"]))

    return limit


def record(name: str, seconds: float, device: str = "cuda") -> None:
    path = Path(f"results/s/m/{name}.run.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rule": "train_arm", "seconds": seconds, "threads": 2, "device": device}))


def try_one(rule: str = "train_arm") -> None:
    with spending.within(rule):
        pass


def test_finished_jobs_are_paid_at_the_prices(budget):
    record("a", 3600)
    record("b", 3600, device="cpu")
    path = Path("resources/models/m.run.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rule": "prepare_model", "seconds": 1800, "threads": 1}))
    assert spending.spent(["results/s", str(path)], PRICES) == pytest.approx(2.0 + 0.2 + 0.05)


def test_a_job_starts_while_there_is_room_and_not_after(budget):
    budget(5.5)
    record("a", 3600)
    try_one()
    record("b", 1800)
    with pytest.raises(InputError, match=r"finished jobs cost 3 EUR, .*this one about 3: more than budget.cost 5.5"):
        try_one()


def test_a_small_models_job_starts_where_a_large_ones_does_not(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    costs = {"evaluate_arm": {"small": {"": 0.4, "short": 0.1}, "large": {"": 40.0, "short": 9.0}}}
    monkeypatch.setenv(spending.VARIABLE, spending.describe("s", 10.0, PRICES, costs, []))

    def starts(place: str) -> bool:
        try:
            with spending.within("evaluate_arm", Path(place)):
                return True
        except InputError:
            return False

    logs = "logs/s/evaluate_arm"
    assert starts(f"{logs}/small/base/seed0/long.log")
    assert starts(f"{logs}/large/base/seed0/short.log")
    assert not starts(f"{logs}/large/base/seed0/long.log")
    assert not starts("elsewhere.log")  # it may be any job of the rule
    assert not starts("logs/other/evaluate_arm/small/base/seed0/short.log")
    record("a", 0.8 * 3600)  # 1.6
    assert not starts(f"{logs}/large/base/seed0/short.log")
    assert starts(f"{logs}/small/base/seed0/short.log")


def test_other_rules_and_studies_without_a_budget_are_free(budget, monkeypatch):
    budget(0.1)
    try_one("contrast_arms")
    monkeypatch.delenv(spending.VARIABLE)
    try_one()


def hold() -> subprocess.Popen:
    code = """
        import sys
        from colocate import spending
        with spending.within("train_arm"):
            print("running", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "running\n"
    return process


def test_running_jobs_hold_their_room_and_dead_ones_do_not(budget):
    budget(7.0)
    first, second = hold(), hold()
    with pytest.raises(InputError, match="running ones about 6"):
        try_one()
    first.kill()  # its note stays, its lock does not
    first.wait()
    try_one()
    second.communicate("")
    assert list(Path("scratch/s/.budget").glob("*.json")) == []


def test_a_refused_job_leaves_its_reason_and_no_output(budget, tmp_path):
    budget(1.0)
    script = tmp_path / "train_arm.py"
    script.write_text('from colocate.provenance import Job\nwith Job("", outputs="out run") as job:\n    1 / 0\n')
    command = [sys.executable, str(script), "--out", "out.txt", "--run", "out.run.json", "--log", "job.log"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1
    assert "ERROR: budget: finished jobs cost 0 EUR" in done.stderr
    assert "ERROR: budget: " in Path("job.log").read_text()
    assert "ZeroDivisionError" not in Path("job.log").read_text()
    assert {path.name for path in tmp_path.iterdir() if "out" in path.name} == set()


def test_a_job_within_the_budget_is_recorded_and_gives_its_room_back(budget, tmp_path):
    budget(10.0)
    script = tmp_path / "train_arm.py"
    body = 'with Job("", outputs="out run") as job:\n    job.out.out.write_text("x")\n'
    script.write_text("from colocate.provenance import Job\n" + body)
    subprocess.run([sys.executable, str(script), "--out", "out.txt", "--run", "out.run.json"], check=True)
    assert json.loads(Path("out.run.json").read_text())["cpu_seconds"] > 0
    assert list(Path("scratch/s/.budget").glob("*.json")) == []


def test_a_limit_changes_no_command_and_so_reruns_nothing(checkout):
    def commands() -> set[str]:
        said = checkout.snakemake("--dry-run", "--printshellcmds", "--workflow-profile", "none", "train").stdout
        return {line for line in said.splitlines() if "SCRIPTS" in line}

    before = commands()
    checkout.overlay("budget", {"budget": {"cost": 0.0000001}})
    assert len(before) > 14
    assert commands() == before


def test_a_run_stops_before_its_limit_and_keeps_what_is_finished(checkout, tiny_llama):
    from tiny import GEOMETRY

    checkout.configfiles.append("config/ci.yaml")
    entry = {"source": f"path:{tiny_llama}", "geometry": GEOMETRY, "dtype": "float32"}
    study = {"study": "s", "select": {"models": ["tiny"]}, "models": {"tiny": entry}, "budget": {"cost": 1e-9}}
    checkout.overlay("small", study)
    done = checkout.snakemake("profiles", check=False)
    assert done.returncode == 1
    assert "more than budget.cost 1e-09" in done.stdout
    folder = checkout.folder / "results/s/tiny"
    assert (folder / "geometry.json").is_file()
    assert not (folder / "profiles").exists() or not list((folder / "profiles").glob("*.csv"))
