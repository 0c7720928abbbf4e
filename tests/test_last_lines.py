"""The last lines of every command say what to do next: after success, after nothing, after a refusal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from colocate import bill, cluster, plan, suggest
from colocate.report import compare, partial
from conftest import ROOT
from snakemake_logger_plugin_colocate import study, text
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


def test_after_a_whole_study_how_its_provenance_is_written(stage, monkeypatch):
    stage.complete = stage.makes_report = True
    monkeypatch.setattr(study, "report", lambda config: None)
    monkeypatch.setattr(study, "findings", lambda config: {})
    written = "snakemake --configfile config/config.yaml mine.yaml --report reports/small-provenance.zip"
    assert last(stage).endswith(f" Snakemake's own report: {written}")
    monkeypatch.setenv("COLOCATE_COMMAND", "make study")
    assert last(stage).endswith(f": .venv/bin/{written}")


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("snakemake --cores 4 --config device=cpu seeds=[0] --profile slurm train", "--config device=cpu seeds=[0] "),
        ("snakemake --configfile=mine.yaml -j 4", "--configfile=mine.yaml "),
        ("snakemake --cores all", ""),
    ],
)
def test_provenance_is_asked_for_with_the_same_config(asked, kept):
    assert text.annex(asked, "a.zip") == f"snakemake {kept}--report a.zip"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["study"], "make study"),
        (
            ["study", "CORES=3", "ARGS=--configfile config/config.yaml 'my study.yaml' -n"],
            'make study CORES=3 ARGS="{}"',
        ),
        (["suggest", "MODEL=m", "DATA=d.jsonl", "CORES=2"], "make suggest MODEL=m DATA=d.jsonl CORES=2"),
    ],
)
def test_make_repeats_what_it_was_asked_for(options, said, tmp_path):
    """With a program in Python's place that only says what the workflow will be told."""
    folder = tmp_path / "checkout"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text().replace("study: env", "study:"))
    for name in ("snakemake", "python"):
        (folder / ".venv/bin" / name).write_text('#!/bin/sh\necho "$COLOCATE_COMMAND"\n')
        (folder / ".venv/bin" / name).chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "PYTHON=true", *options], cwd=folder, capture_output=True, text=True, check=True
    )
    arguments = next((option.partition("=")[2] for option in options if option.startswith("ARGS")), "")
    assert done.stdout.splitlines()[-1] == said.format(arguments)


@pytest.mark.parametrize(
    ("given", "arguments", "said"),
    [
        ({}, [], "sbatch profiles/allocation/job.sh"),
        (
            {
                **{"SLURM_JOB_PARTITION": "gpu", "SLURM_GPUS": "4", "SLURM_CPUS_PER_TASK": "16"},
                **{"SLURM_MEM_PER_NODE": "204800", "SLURM_JOB_START_TIME": "600", "SLURM_JOB_END_TIME": "87000"},
            },
            ["--configfile", "config/config.yaml", "my study.yaml"],
            "sbatch --partition=gpu --gpus=4 --cpus-per-task=16 --mem=204800M --time=1440 profiles/allocation/job.sh "
            "'--configfile' 'config/config.yaml' 'my study.yaml'",
        ),
    ],
)
def test_an_allocation_repeats_what_it_was_asked_for(given, arguments, said, tmp_path):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/snakemake").write_text('#!/bin/sh\necho "$COLOCATE_COMMAND"\n')
    (tmp_path / ".venv/bin/snakemake").chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    environment = clean | given | {"SLURM_SUBMIT_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1"}
    command = ["bash", ROOT / "profiles/allocation/job.sh", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "To run it: snakemake --cores all --configfile config/config.yaml"),
        (
            ["--configfile", "config/config.yaml", "config/ci.yaml", "--device", "cuda", "--gpus", "4"],
            "To run it: snakemake --profile profiles/gpu --resources gpu=4 --configfile config/config.yaml "
            "config/ci.yaml  (through SLURM: --profile slurm)",
        ),
    ],
)
def test_after_a_plan_the_command_that_runs_it(arguments, said, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    job = {"rule": "prepare_model", "wildcards": {"model": "smollm2-135m"}}
    monkeypatch.setattr(bill, "ask_snakemake", lambda *_: ("The plan.", [job]))
    monkeypatch.setattr(plan.devices, "list_gpus", list)
    assert bill.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == said
    monkeypatch.setattr(bill, "ask_snakemake", lambda *_: ("The plan.", []))
    bill.main(arguments)
    assert re.match(r"Open reports/\S+\.html in a browser$", capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(("module", "write"), [(compare, "write_comparison"), (partial, "write_partial")])
def test_after_a_page_that_it_opens_in_a_browser(module, write, monkeypatch, capsys):
    monkeypatch.setattr(module, write, lambda *_: Path("reports/page.html"))
    assert module.main(["one"]) == 0
    assert capsys.readouterr().out.strip() == "Open reports/page.html in a browser"


def test_the_cluster_commands_say_what_to_do_about_what_they_found(monkeypatch, capsys):
    def said(*options: str) -> str:
        cluster.main([*options])
        return capsys.readouterr().out.splitlines()[-1]

    monkeypatch.setattr(cluster, "doubts", lambda folder: [])
    for found, next_step in (
        ([], "To run: snakemake --profile slurm"),
        (["x"], "Put this right, and look again: python"),
    ):
        monkeypatch.setattr(cluster, "problems", lambda *_, found=found: found)
        assert said("check").startswith(next_step)
    for left, next_step in (([], "To run: snakemake"), ([cluster.SlurmJob("1", "RUNNING", "x")], "To wait for them: ")):
        monkeypatch.setattr(cluster, "jobs", lambda folder, left=left: left)
        assert said("jobs").startswith(next_step)


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
