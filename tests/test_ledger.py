"""The ledger of a finished study: every job once, as Snakemake counts them, and the report and `make times` agree."""

import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from colocate.compute import AFTER
from test_workflow import PLAIN, jobs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ledger(finished) -> pd.DataFrame:
    return pd.read_csv(finished.folder / "results/small/compute.csv")


def test_every_job_but_the_four_after_it_is_there_with_its_numbers(finished, ledger):
    counted = jobs(finished.snakemake("--dry-run", "--forceall", *PLAIN).stdout)
    counted.pop("all")
    assert ledger["rule"].value_counts().to_dict() == {rule: n for rule, n in counted.items() if rule not in AFTER}
    assert set(AFTER) < set(counted)
    assert ledger[["seconds", "cost"]].notna().all(axis=None)
    assert (ledger[["peak_memory_mib", "cpu_seconds"]] > 0).all(axis=None)
    assert ledger["label"].is_unique


def test_the_report_says_which_jobs_are_in_it(finished, ledger):
    page = (finished.folder / "reports/small.html").read_text(encoding="utf-8")
    assert f"In the bill: {len(ledger)} of the study&#39;s {len(ledger) + len(AFTER)} jobs." in page
    assert "Not in it, because they come after it: collect compute, compare models, write report, describe run." in page
    assert "records are lost" not in page


def test_the_minutes_by_rule_are_those_of_all_jobs(finished, ledger):
    command = [sys.executable, "-m", "colocate.compute", "small"]
    done = subprocess.run(command, cwd=finished.folder, env=finished.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {rule: (int(n), float(took)) for rule, n, took in re.findall(r"^(\w+) +(\d+) +([\d.]+)$", done.stdout, re.M)}
    assert rows.pop("all")[0] == len(ledger) + len(AFTER)
    assert set(rows) == {*ledger["rule"], *AFTER}
    trained = ledger.loc[ledger["rule"] == "train_arm", "seconds"]
    assert rows["train_arm"] == (len(trained), pytest.approx(trained.sum() / 60, abs=0.01))


def test_lost_logs_repeat_nothing(finished, tmp_path):
    study = finished.clone(tmp_path / "clone", links=True)
    shutil.rmtree(study.folder / "logs")
    assert study.would_run() == set()
