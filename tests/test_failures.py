"""Why a job failed: one sentence for each way, and the list at the end of real runs with retries."""

import json
import subprocess
import sys

import pytest

from snakemake_logger_plugin_colocate.failures import failure

SLURM = (
    "SLURM-job '77' failed, SLURM status is: '{}'. Detailed failure reason unavailable (status command is not 'sacct')."
    "For further error details see the cluster/cloud log and the log files of the involved rule(s)."
)
NODE_FAIL = "SLURM-job '77' failed due to a node failure, SLURM status is: 'NODE_FAIL'. Failed nodes will be excluded."
REFUSED = "SLURM sbatch failed. The error message was 'sbatch: error: invalid account'.\n    sbatch call:\n  sbatch x"
LOG = "INFO\nTraceback\nERROR: training.lr: found 0\nERROR: training.lr: found -1\nallowed: above 0\n"
SRUN = "srun: error: node7: task 0: {}\nCommand 'x' returned non-zero exit status {}.\n"


@pytest.mark.parametrize(
    ("message", "log", "cluster_log", "reason"),
    [
        (SLURM.format("TIMEOUT"), "step 3\n", "", "it reached its time limit"),
        (SLURM.format("OUT_OF_MEMORY"), "step 3\n", "", "it needed more memory than it had asked for"),
        (NODE_FAIL, None, None, "its node failed"),
        (SLURM.format("CANCELLED"), "", "slurmstepd: CANCELLED AT", "it was cancelled (scancel)"),
        (SLURM.format("FAILED"), LOG, "Error in rule train_arm", "training.lr: found -1"),
        (SLURM.format("FAILED"), None, SRUN.format("Out Of Memory", 137), "it needed more memory than there was"),
        (
            SLURM.format("FAILED"),
            "step 3\n",
            SRUN.format("Killed", 137),
            "its process was ended by SIGKILL; most often",
        ),
        (SLURM.format("FAILED"), "step 3\n", SRUN.format("Exited", 1), "step 3"),
        (SLURM.format("FAILED"), None, "line\nsrun: error: no such node\n", "srun: error: no such node"),
        (SLURM.format("FAILED"), None, None, "it failed without a word in its log"),
        (REFUSED, None, None, "SLURM did not take it: sbatch: error: invalid account"),
        ("", LOG, None, "training.lr: found -1"),
        ("", "", None, "it failed without a word in its log"),
        ("Job submission failed with exception: x", None, None, "Job submission failed with exception: x"),
    ],
)
def test_the_reason_is_a_sentence(tmp_path, monkeypatch, message, log, cluster_log, reason):
    monkeypatch.chdir(tmp_path)
    for name, text in (("job.log", log), ("77.log", cluster_log)):
        if text is not None:
            (tmp_path / name).write_text(text)
    fields = {"rule_msg": message, "log": [str(tmp_path / name) for name in ("job.log", "77.log")], "shellcmd": "x"}
    found = failure("train_arm  colocated", 2, fields | {"aux": {"external_jobid": "77"} if message else {}})
    assert found.reason.startswith(reason)
    there = [name for name, text in (("job.log", log), ("77.log", cluster_log)) if text is not None]
    assert (found.log in there) if there else (found.log is None)
    first = found.entry()[0]
    place = " (SLURM job 77)" if message else ""
    assert first.startswith(f"  train_arm  colocated, attempt 2{place}: {reason}")


def test_a_local_command_that_a_signal_ended(tmp_path):
    ended = "CalledProcessError in file x, line 1:\nCommand 'set -e; python y' died with <Signals.SIGKILL: 9>."
    found = failure("train_arm", 1, {"log": [], "rule_msg": None, "shellcmd": "python y"}, ended)
    assert found.reason.startswith("its process was ended by SIGKILL")
    assert found.block(3.0)[0] == "FAILED  train_arm  attempt 1, after 3.0 s"


SNAKEFILE = """
rule all:
    input: expand("{name}.txt", name=["always", "once", "fine", "killed"])

rule make:
    output: "{name}.txt"
    log: "logs/{name}.log"
    shell:
        "echo x >> tries-{wildcards.name}; n=$(wc -l < tries-{wildcards.name}); echo starting > {log}; "
        "if [ {wildcards.name} = always ] || [ {wildcards.name}$n = once1 ]; then"
        " echo ERROR: attempt $n of {wildcards.name} >> {log}; exit 1; fi; "
        "if [ {wildcards.name} = killed ]; then kill -9 $$; fi; touch {output}"
"""


@pytest.mark.slow
def test_the_list_at_the_end_names_job_attempt_reason_and_log(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--logger", "colocate", "--keep-going", "--retries"]
    done = subprocess.run(
        [*command, "1"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    assert done.returncode == 1
    end = done.stdout[done.stdout.index("2 jobs failed; 2 of 4 done, 0 not run.") :]
    for attempt in (1, 2):
        assert f"  make  always, attempt {attempt}: attempt {attempt} of always\n    log: logs/always.log" in end
        assert f"  make  killed, attempt {attempt}: its process was ended by SIGKILL" in end
    assert "once" not in end  # its second attempt succeeded
    assert "FAILED  make  once  attempt 1" in done.stdout
    assert (tmp_path / "once.txt").exists()
    assert len(json.dumps(end)) < 1500
