"""The progress logger: words and numbers, the state of a run, and what a person sees of real Snakemake runs."""

import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import TestLogHandlerBase as LogHandlerChecks

import snakemake_logger_plugin_colocate as plugin
from colocate import plan
from snakemake_logger_plugin_colocate import text
from snakemake_logger_plugin_colocate.run import NOTHING, TARGETS, Run

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = """
import os
from colocate import plan

GEOMETRY = {"n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "hidden": 64, "ffn": 96, "vocab": 259}
plan.announce({
    "study": "small", "device": "cpu", "threads": 1,
    "select": {"models": ["tiny"]}, "models": {"tiny": {"geometry": GEOMETRY}},
    "prices": {"gpu_hour": 2.5, "cpu_hour": 0.04, "currency": "USD"},
})

rule all:
    input: "reports/small.html"

rule resolve_arm:
    output: "results/small/{model}/{arm}/seed{seed}.txt"
    log: "logs/small/resolve_arm/{model}/{arm}/seed{seed}.log"
    params: setting=os.environ.get("SETTING", "1")
    shell:
        "sleep {config[sleep]}; if [ -e fail-{wildcards.arm} ]; then"
        " printf 'Trace\\\\nERROR: training.lr: found -1\\\\nallowed: above 0\\\\n' > {log}; exit 1; fi; touch {output}"

rule write_report:
    input: expand("results/small/tiny/{arm}/seed{seed}.txt", arm=["colocated", "random"], seed=[0, 1])
    output: "reports/small.html"
    log: "logs/small/write_report.log"
    shell: "touch {output}"
"""


# ---- words and numbers


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min"), (72, "1 min 12 s"), (3600, "1 h"), (7500, "2 h 5 min")]
    + [(90000, "1 d 1 h")],
)
def test_duration(seconds, words):
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "under 10 s"), (41, "about 50 s"), (95, "about 2 min"), (1075, "about 18 min"), (2.4 * 3600, "about 2.5 h")]
    + [(3 * 86400, "about 3 d")],
)
def test_about_says_no_more_than_an_estimate_knows(seconds, words):
    assert text.about(seconds) == words


def test_wildcards_read_as_words():
    values = {"model": "smollm2-135m", "arm": "colocated", "seed": "0"}
    assert text.wildcards(values) == "smollm2-135m colocated seed 0"
    assert text.wildcards(values, hidden=("model",)) == "colocated seed 0"


def test_counts_keep_a_rule_and_its_number_together():
    lines = text.counts({"train_arm": 14, "evaluate_arm": 90, "write_report": 1}, 30)
    assert lines == ["train_arm 14, evaluate_arm 90,", "write_report 1"]


def test_reason_prefers_the_last_error_of_the_first_log_that_speaks(tmp_path):
    quiet, loud, cluster = tmp_path / "quiet.log", tmp_path / "loud.log", tmp_path / "cluster.log"
    quiet.write_text("")
    loud.write_text("ERROR: first\nretry\nERROR: training.lr: found -1\nallowed: above 0\n")
    cluster.write_text("\n".join(f"line {i}" for i in range(100)))
    absent = str(tmp_path / "absent.log")
    said = text.reason([absent, str(quiet), str(loud), str(cluster)])
    assert said == (["ERROR: training.lr: found -1", "allowed: above 0"], str(loud))
    lines, name = text.reason([absent, str(cluster)])
    assert (lines[-1], len(lines), name) == ("line 99", text.LOG_LINES, str(cluster))
    assert text.reason([absent, str(quiet)]) == ([], str(quiet))
    assert text.reason([absent]) == ([], None)


def test_command_to_go_on_does_not_force_what_is_finished():
    assert text.command("/a/b/snakemake --cores 2 -F train") == "snakemake --cores 2 train"
    assert text.command("/a/snakemake/__main__.py -c2") == "snakemake -c2"


# ---- the state of a run


def job_info(jobid: int, created: float, rule: str = "train_arm", **changes) -> dict:
    wildcards = {"model": "tiny", "arm": "colocated", "seed": str(jobid)}
    fields = {"created": created, "jobid": jobid, "rule_name": rule, "wildcards": wildcards, "log": [], "reason": "new"}
    return fields | {"local": True} | changes


def started_run(jobs: int = 4, cores: int = 2) -> Run:
    run = Run()
    run.see(LogEvent.WORKFLOW_STARTED, "", {"created": 0.0, "cmd": "/x/snakemake --cores 2"})
    run.see(LogEvent.RESOURCES_INFO, "", {"created": 0.0, "cores": cores})
    run.see(LogEvent.RUN_INFO, "", {"created": 0.0, "stats": {"train_arm": jobs, "all": 1, "total": jobs + 1}})
    return run


@pytest.fixture(autouse=True)
def _no_study():
    plan.announce({})
    yield
    plan.announce({})


def test_progress_counts_jobs_and_what_is_left():
    run = started_run()
    run.see(LogEvent.JOB_INFO, "", job_info(0, 0.0))
    run.see(LogEvent.JOB_INFO, "", job_info(1, 0.0))
    [(style, line)] = run.see(LogEvent.JOB_FINISHED, "", {"created": 72.0, "job_id": 0})
    # One running for 72 of 72 s counts as 0.9 done, two wait: 72 * (2 + 0.1) / 2 slots = 75.6 s.
    assert run.seconds_left() == pytest.approx(75.6)
    assert style == "done"
    assert line == "[1/4]  train_arm  tiny colocated seed 0  done in 1 min 12 s   (25 %, about 80 s left)"


def test_targets_are_no_jobs():
    run = started_run(jobs=1)
    run.see(LogEvent.JOB_INFO, "", job_info(0, 0.0))
    [(_, line)] = run.see(LogEvent.JOB_FINISHED, "", {"created": 1.0, "job_id": 0})
    assert line.startswith("[1/1]")
    assert line.endswith("(100 %)")
    assert run.see(LogEvent.JOB_INFO, "", job_info(9, 1.0, rule="all", wildcards={})) == []
    assert run.see(LogEvent.JOB_FINISHED, "", {"created": 1.0, "job_id": 9}) == []


def test_the_targets_are_those_of_the_workflow():
    import re

    rules = re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rules) == TARGETS


def test_a_long_job_is_shown_when_it_starts():
    run = started_run()
    assert run.see(LogEvent.JOB_INFO, "", job_info(0, 0.0)) == []
    run.see(LogEvent.JOB_FINISHED, "", {"created": 100.0, "job_id": 0})
    [(_, line)] = run.see(LogEvent.JOB_INFO, "", job_info(1, 100.0))
    assert line.strip() == "train_arm  tiny colocated seed 1  started (about 2 min)"


def test_on_a_cluster_jobs_are_submitted():
    run = Run()
    run.see(LogEvent.RESOURCES_INFO, "", {"created": 0.0, "nodes": 8})
    run.see(LogEvent.RUN_INFO, "", {"created": 0.0, "stats": {"train_arm": 4, "total": 4}})
    run.seconds["train_arm"] = [100.0]
    assert run.see(LogEvent.JOB_INFO, "", job_info(1, 100.0, local=False)) == []
    said = "Job 1 has been submitted with SLURM jobid 77 (log: /far/away/77.log)."
    [(_, line)] = run.see(None, said, {"created": 100.0})
    assert line.strip() == "train_arm  tiny colocated seed 1  submitted, SLURM job 77 (about 2 min)"
    run.seconds["train_arm"] = [10.0]
    assert run.see(None, said, {"created": 100.0}) == []  # a short one: the line that it is done will do
    run.seconds["train_arm"] = [100.0]
    assert run.seconds_left() == pytest.approx(100.0)


def test_a_retried_job_that_succeeds_is_no_failure(tmp_path):
    run = started_run(jobs=1)
    run.see(LogEvent.JOB_INFO, "", job_info(3, 0.0))
    error = {"created": 5.0, "jobid": 3, "rule_name": "train_arm", "log": [], "shellcmd": "x"}
    error["rule_msg"] = "SLURM-job '77' failed, SLURM status is: 'TIMEOUT'."
    lines = run.see(LogEvent.JOB_ERROR, "", error | {"aux": {"external_jobid": "77"}})
    assert [line for _, line in lines] == [
        "FAILED  train_arm  tiny colocated seed 3  attempt 1, after 5.0 s",
        "  why   it reached its time limit",
        "  job   77 in SLURM",
    ]
    assert "one more attempt" in run.see(None, "Trying to restart job 3.", {"created": 5.0})[0][1]
    run.see(LogEvent.JOB_INFO, "", job_info(3, 6.0))
    run.see(LogEvent.JOB_FINISHED, "", {"created": 9.0, "job_id": 3})
    run.see(None, "Elapsed time: 0:00:09", {"created": 9.0})
    assert run.closing_lines()[0] == (
        "head",
        "\nFinished: 1 job in 9.0 s. 1 failed attempt repeated with success.",
    )


def test_misleading_warnings_of_the_slurm_executor_are_left_out(capsys):
    handler = TestInterface()._create_handler()
    for said in ("No SLURM account given, trying to guess.", "The following nodes failed: n1"):
        handler.emit(logging.LogRecord("snakemake", logging.WARNING, "", 0, said, (), None))
    printed = "".join(capsys.readouterr())
    assert "trying to guess" not in printed
    assert "The following nodes failed: n1" in printed


def test_other_errors_come_through_and_end_the_run_unfinished():
    run = started_run()
    missing = {"created": 1.0, "exception": "MissingOutputException"}
    assert run.see(LogEvent.ERROR, "MissingOutputException in rule train_arm", missing) is None
    ended = "WorkflowError:\nAt least one job did not complete successfully."
    run.see(None, "Elapsed time: 0:00:01", {"created": 1.0})
    assert run.see(LogEvent.ERROR, ended, {"created": 1.0, "exception": "WorkflowError"}) is None
    assert run.closing_lines()[0] == ("failed", "\nNot finished: 0 of 4 jobs done.")


def test_the_message_for_nothing_to_do_is_still_snakemakes():
    from snakemake.common import NOTHING_TO_BE_DONE_MSG

    assert NOTHING_TO_BE_DONE_MSG.startswith(NOTHING)


class TestInterface(LogHandlerChecks):
    """Every event of the interface, by its own test class."""

    __test__ = True

    def get_log_handler_cls(self):
        return plugin.LogHandler

    def get_log_handler_settings(self):
        return None


def test_an_error_of_the_logger_does_not_end_the_run(monkeypatch, capsys):
    handler = TestInterface()._create_handler()
    monkeypatch.setattr(handler.run, "see", lambda *_: 1 / 0)
    handler.emit(logging.LogRecord("snakemake", logging.INFO, "", 0, "text", (), None))
    assert "ZeroDivisionError" in capsys.readouterr().err


# ---- real runs


@pytest.fixture
def workflow(tmp_path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    profile = tmp_path / "profiles/default"
    profile.mkdir(parents=True)
    (profile / "config.yaml").write_text("logger: colocate\nconfig: [sleep=0]\n")
    return tmp_path


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A run with both streams in `stdout`."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "COLOCATE_COMMAND"} | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )


@pytest.mark.slow
def test_a_run_from_its_plan_to_its_report_and_then_nothing_to_do(workflow):
    findings = workflow / "results/small/tiny/statistics/findings.json"
    findings.parent.mkdir(parents=True)
    findings.write_text(json.dumps(["First finding.", "Second finding.", "Third finding.", "Fourth finding."]))
    run = snakemake(workflow)
    assert run.returncode == 0
    lines = run.stdout.splitlines()
    start = lines.index("Colocate, study small: 5 jobs to run")
    assert lines[start + 1] == "  resolve_arm 4, write_report 1"
    assert "on 2 cores (a rough estimate" in lines[start + 2]
    done = [line for line in lines if "done in" in line]
    assert [line[:5] for line in done] == [f"[{i}/5]" for i in range(1, 6)]
    assert sum("resolve_arm   colocated seed 0" in line for line in done) == 1
    end = next(i for i, line in enumerate(lines) if line.startswith("Finished: 5 jobs in"))
    assert lines[end + 1].startswith("Report: reports/small.html")
    assert [line.strip() for line in lines[end + 3 :]] == [
        "1. First finding.",
        "2. Second finding.",
        "3. Third finding.",
        "Where every file came from, as Snakemake's own report: snakemake --report reports/small-provenance.zip",
    ]
    assert "Building DAG" not in run.stdout

    again = snakemake(workflow)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-2:] == [
        "Nothing to do: everything is there and up to date.",
        lines[end + 1],
    ]


@pytest.mark.slow
def test_a_failure_names_job_reason_log_and_how_to_go_on(workflow):
    (workflow / "fail-random").touch()
    run = snakemake(workflow, "--keep-going", COLOCATE_COMMAND="make study")
    assert run.returncode == 1
    log = "logs/small/resolve_arm/tiny/random/seed1.log"
    block = run.stdout[run.stdout.index("FAILED  resolve_arm  random seed 1") :].splitlines()
    assert block[1:4] == ["  why   training.lr: found -1", "        allowed: above 0", f"  log   {log}"]
    end = run.stdout[run.stdout.index("2 jobs failed; 2 of 5 done, 1 not run.") :]
    assert f"  resolve_arm  random seed 1, attempt 1: training.lr: found -1\n    log: {log}" in end
    assert end.rstrip().endswith("To go on: make study")
    assert "CalledProcessError" not in run.stdout

    (workflow / "fail-random").unlink()
    resumed = snakemake(workflow)
    assert resumed.returncode == 0
    assert "study small: 3 jobs to run" in resumed.stdout


@pytest.mark.slow
def test_a_dry_run_lists_each_job_with_its_reason(workflow):
    assert snakemake(workflow, "--until", "resolve_arm").returncode == 0
    run = snakemake(workflow, "-n", SETTING="2")
    assert run.returncode == 0
    assert "study small: 5 jobs would run" in run.stdout
    listed = [line for line in run.stdout.splitlines() if "reason:" in line]
    assert len(listed) == 5
    assert sum("resolve_arm   random seed 1  reason: Params have changed" in line for line in listed) == 1
    assert not (workflow / "reports").exists()
    full = snakemake(workflow, "-n", "--printshellcmds")
    assert "rule write_report:" in full.stdout
    assert "touch reports/small.html" in full.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("snakefile", "said"),
    [
        ("rule all:\n    input: 'nowhere.txt'\n", "Missing input files for rule all"),
        ("raise WorkflowError('config: training.lr: found -1')\n", "config: training.lr: found -1"),
    ],
)
def test_errors_of_the_workflow_come_through(workflow, snakefile, said):
    (workflow / "Snakefile").write_text(snakefile)
    run = snakemake(workflow)
    assert run.returncode == 1
    assert said in run.stdout
    assert "To go on" not in run.stdout


@pytest.mark.slow
def test_a_reader_that_leaves_early_does_no_harm(workflow):
    command = f"{sys.executable} -m snakemake -n --cores 2 2>&1 | head -n 2; echo status ${{PIPESTATUS[0]}}"
    seen = subprocess.run(["bash", "-c", command], cwd=workflow, capture_output=True, text=True, timeout=120)
    assert "status 0" in seen.stdout
    assert "Error" not in seen.stdout + seen.stderr


@pytest.mark.slow
def test_other_commands_keep_their_output(workflow):
    assert "Specify a conda environment or container" in snakemake(workflow, "--lint").stdout
    assert "output_file" in snakemake(workflow, "--summary").stdout
    assert snakemake(workflow).returncode == 0
    assert "Report created" in snakemake(workflow, "--report", "report.zip").stdout


@pytest.mark.slow
def test_quiet_is_quiet_but_not_about_failures(workflow):
    quiet = snakemake(workflow, "--quiet", "all")
    assert (quiet.returncode, "job" in quiet.stdout) == (0, False)
    (workflow / "fail-random").touch()
    failed = snakemake(workflow, "--quiet", "all", "--forceall")
    assert failed.returncode == 1
    assert "FAILED  resolve_arm" in failed.stdout


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(workflow):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "sleep=30"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A test run in the background ignores SIGINT, and its children would inherit that.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, cwd=workflow, start_new_session=True, **pipes, **listening) as run:
        seen = ""
        for line in run.stdout:
            seen += line
            if "jobs to run" in line:
                time.sleep(1)
                os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does: the jobs get it too
                break
        seen += run.communicate(timeout=60)[0]
    assert run.returncode != 0
    assert "Not finished: 0 of 5 jobs done." in seen
    assert seen.rstrip().splitlines()[-1].startswith("What is finished is kept")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_on_a_terminal_only(workflow, environment, coloured):
    near, far = pty.openpty()
    command = [sys.executable, "-m", "snakemake", "--cores", "2"]
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | environment
    with subprocess.Popen(command, cwd=workflow, env=clean, stdin=far, stdout=far, stderr=far) as run:
        os.close(far)
        seen = b""
        while True:
            try:
                part = os.read(near, 4096)
            except OSError:  # the terminal is closed once the run has ended
                break
            if not part:
                break
            seen += part
    os.close(near)
    assert run.returncode == 0
    assert (b"\033[32m[1/5]" in seen) == coloured
    assert (b"\033[" in seen) == coloured


@pytest.mark.slow
def test_nothing_of_it_in_the_step_of_a_cluster_job(workflow):
    target = "results/small/tiny/random/seed0.txt"
    step = ["--mode", "remote", "--allowed-rules", "resolve_arm", "--force", "--nolock"]
    run = snakemake(workflow, target, *step, "--config", "sleep=0", "--logger", "colocate")
    assert run.returncode == 0
    assert "Colocate, study" not in run.stdout
    assert (workflow / target).exists()


@pytest.mark.slow
def test_the_default_profile_chooses_it_and_the_workflow_announces_its_study():
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--nolock"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert "Colocate, study smollm2: " in run.stdout or "Nothing to do" in run.stdout
