"""benchmarks/workflow.py: it starts the study for real, leaves nothing running, and says what missed its target."""

import re
import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.mark.slow
def test_it_measures_dry_runs_first_jobs_and_the_cost_of_a_light_job(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/workflow.py"), "--jobs", "131", "--parent", str(tmp_path)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert done.returncode == ("missed:" in done.stdout), done.stdout + done.stderr
    row = re.search(r"^131 +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", done.stdout, re.M)
    assert row, done.stdout
    dry_wall, _, _, first_wall, first_processor = map(float, row.groups())
    assert dry_wall > 0.5
    assert first_wall > 0.5 < first_processor
    assert re.search(r"^one light job: -?[\d.]+ processor s beyond its script", done.stdout, re.M)
    assert list(tmp_path.iterdir()) == []
