"""The last lines of every command say what to do next: after success, after nothing, after a refusal."""

import json
import os
import re
import subprocess
import sys

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from colocate import plan, suggest
from conftest import ROOT
from snakemake_logger_plugin_colocate import text
from snakemake_logger_plugin_colocate.run import TARGETS, Run

CONFIG = {"study": "small", "select": {"models": ["tiny"]}}


def last(run: Run) -> str:
    return run.closing_lines()[-1][1].strip()


@pytest.fixture
def stage(monkeypatch) -> Run:
    """A run of two jobs, up to a stage."""
    monkeypatch.setattr(plan, "announced", lambda: CONFIG)
    monkeypatch.setattr(Run, "_plan_lines", lambda self, config: [])
    monkeypatch.setattr(plan, "estimate", lambda stats, config: None)
    monkeypatch.setattr(Run, "_run_info", lambda self, message, fields: start(self, fields))
    run = Run()
    command = "/x/bin/snakemake --cores 2 -n profiles --configfile config/config.yaml mine.yaml"
    run.see(LogEvent.WORKFLOW_STARTED, "", {"created": 0.0, "cmd": command})
    run.see(LogEvent.RUN_INFO, "", {"created": 0.0, "stats": {"profile_layers": 2}})
    return run


def start(run: Run, fields: dict) -> list:
    run.remaining, run.total, run.started = dict(fields["stats"]), 2, 0.0
    return []


def test_after_a_stage_the_way_to_the_report(stage):
    stage.complete = True
    assert last(stage) == "To go on to the report: snakemake --cores 2 --configfile config/config.yaml mine.yaml"


def test_after_a_dry_run_the_command_that_runs_it(stage):
    stage.dryrun = True
    said = "Nothing has been run; 2 jobs would be. To run: snakemake --cores 2 profiles --configfile"
    assert last(stage).startswith(said)


def test_after_an_interruption_the_command_that_goes_on(stage):
    stage.interrupted = True
    assert re.search(r"What is finished is kept.* To go on: snakemake --cores 2 profiles", last(stage))


def test_targets_are_left_out_of_the_command_for_the_whole_study():
    assert text.without_targets("snakemake --cores 2 -- train", TARGETS) == "snakemake --cores 2"


@pytest.mark.parametrize("option", ["-n", "--dry-run", "--dryrun", "-F", "--forceall"])
def test_the_command_to_repeat_neither_forces_nor_plans(option):
    assert text.command(f"/x/snakemake --cores 2 {option} train") == "snakemake --cores 2 train"


def test_what_the_workflow_refuses_is_said_without_frames():
    message = (
        'WorkflowError in file "/x/workflow/rules/common.smk", line 27:\nconfig: seeds (mine.yaml:1): found -1\n'
        '  File "/x/workflow/rules/common.smk", line 27, in <module>'
    )
    assert text.refusal(message) == ["config: seeds (mine.yaml:1): found -1"]
    assert text.refusal("WorkflowError in file /x/workflow/rules/train.smk, line 3:\nother") == []
    assert text.refusal("MissingInputException in rule train_arm") == []


def test_a_config_file_that_is_no_yaml_is_named_with_its_line(tmp_path, monkeypatch):
    broken = tmp_path / "mine.yaml"
    broken.write_text("seeds: [0]\ndevice: [cpu\n")
    for words in (["--configfile", str(broken), "-n"], [f"--configfile={broken}"], ["--configfiles", str(broken)]):
        monkeypatch.setattr(sys, "argv", ["snakemake", *words])
        [said] = text.refusal("WorkflowError:\nConfig file is not valid JSON or YAML. In case of YAML, ...")
        assert said.startswith(f"{broken}:3: not YAML")


def test_suggest_names_the_command_for_the_evidence(tmp_path, monkeypatch, capsys):
    answer = tmp_path / "recommendation.json"
    answer.write_text(json.dumps({"text": "Adapt layers 3 to 9."}))
    monkeypatch.setattr(suggest, "prepare", lambda model, data: (tmp_path / "overlay.yaml", answer))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    assert suggest.main(["--model", "m", "--data", "d", "--cores", "2"]) == 0
    said = capsys.readouterr().out.strip().splitlines()
    assert "Adapt layers 3 to 9." in said
    assert said[-1].endswith(f"snakemake --cores 2 --configfile config/config.yaml {tmp_path}/overlay.yaml")


def test_make_env_says_that_nothing_is_to_be_done():
    shown = subprocess.run(["make", "-n", "env"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--say" in shown
    within = subprocess.run(["make", "-n", "study"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--say" not in within, "make study says enough"


def test_make_lint_says_how_it_ended(tmp_path):
    """With stand-ins for the checkers on PATH: what is looked at is the last line."""
    for name in ("ruff", "snakefmt", "snakemake"):
        (tmp_path / name).write_text("#!/bin/sh\nexit ${VERDICT:-0}\n")
        (tmp_path / name).chmod(0o755)
    shown = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    recipe = shown[shown.index("failed=0") :].replace(f"{ROOT}/.venv/bin:", "")
    for verdict, said in (("0", "Style: clean."), ("1", "Style: see above.")):
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VERDICT": verdict}
        done = subprocess.run(["sh", "-c", recipe], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == int(verdict)
        assert done.stdout.strip().splitlines()[-1].startswith(said)
