"""The profiles: keys that do not erase each other, comments, what clusters, workstations and allocations are asked."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest
import yaml

from colocate import plan
from conftest import ROOT

PROFILES = ("default", "gpu", "slurm", "allocation")


def keys(profile: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text(encoding="utf-8"))


def test_the_default_profile_shares_no_key_with_another():
    """It is always read, and a key in it would replace the same key of --profile whole."""
    for profile in PROFILES[1:]:
        assert not set(keys("default")) & set(keys(profile)), profile


@pytest.mark.parametrize("profile", PROFILES)
def test_every_key_has_a_comment_with_its_reason(profile):
    lines = (ROOT / "profiles" / profile / "config.yaml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z]", line):
            above = next(lines[i] for i in range(number - 1, -1, -1) if not re.match(r"[a-z]", lines[i]))
            assert above.startswith("#"), f"profiles/{profile}: {line} has no comment above it"


def test_the_profile_is_found_under_its_name():
    assert (ROOT / "slurm").resolve() == ROOT / "profiles/slurm"


def test_no_rule_names_a_cluster():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert not re.search(r"slurm_partition|slurm_account|gpu_model|slurm_extra|constraint=", text)


def test_the_type_of_card_is_for_jobs_that_ask_for_one():
    chosen = set(keys("slurm")["set-resources"])
    assert chosen == set(plan.MODEL_RULES) | {"describe_model"}
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    on_gpu = {rule.split(":")[0] for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:] if "gpu=GPU" in rule}
    assert chosen == on_gpu


@pytest.fixture
def cluster(checkout, tmp_path):
    """A checkout whose PATH has programs that answer as SLURM's do."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("scontrol", "sinfo", "squeue", "sbatch", "srun", "scancel", "sacct"):
        program = folder / name
        program.write_text('#!/bin/sh\ncase "$*" in *config*) echo "SLURM_VERSION = 22.05.8";; esac\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    checkout.environment["PATH"] = f"{folder}:{checkout.environment['PATH']}"
    return checkout


def resources(printed: str, rule: str) -> dict[str, str]:
    """Resources of the first job of a rule in a dry run."""
    text = printed.split(f"\nrule {rule}:")[1].split("resources: ")[1].splitlines()[0]
    return dict(part.split("=", 1) for part in text.split(", "))


def asked(checkout, profile: str, *options: str) -> str:
    command = ("--profile", f"profiles/{profile}", "--workflow-profile", "none", "--dry-run", "train", *options)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *command], cwd=checkout.folder, env=checkout.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_what_a_cluster_is_asked_for_follows_variables_and_geometry(cluster):
    names = {"PARTITION": "big", "ACCOUNT": "us", "GPU": "a100", "EXTRA": "--qos=long"}
    cluster.environment |= {f"COLOCATE_SLURM_{name}": value for name, value in names.items()}
    said = asked(cluster, "slurm")
    training, sets = resources(said, "train_arm"), resources(said, "select_layers")
    assert (training["slurm_partition"], training["slurm_account"], training["slurm_extra"]) == (
        "big", "us", "--qos=long",
    )  # fmt: skip
    assert (training["gpu"], training["nodes"], training["gpu_model"]) == ("1", "1", "a100")
    assert "gpu_model" not in sets
    assert int(training["mem_mb"]) > int(sets["mem_mb"]) >= 500
    assert int(training["runtime"]) >= 30


def test_without_variables_the_cluster_chooses(cluster):
    training = resources(asked(cluster, "slurm"), "train_arm")
    assert {training[key] for key in ("slurm_partition", "slurm_account", "gpu_model")} == {""}


def test_the_executor_asks_for_the_card_by_type():
    utils = pytest.importorskip("snakemake_executor_plugin_slurm.utils")

    class Job:
        resources = {"gpu": 1, "gpu_model": "a100"}

    assert utils.set_gres_string(Job).strip() == "--gpus=a100:1"
    Job.resources = {"gpu": 1, "gpu_model": ""}
    assert utils.set_gres_string(Job).strip() == "--gpus=1"


def test_scales_of_the_config_reach_every_job(checkout):
    plain = resources(asked(checkout, "gpu"), "train_arm")
    checkout.overlay("scaled", {"resources": {"memory_scale": 2, "time_scale": 4}})
    scaled = resources(asked(checkout, "gpu", "--configfile", *checkout.configfiles), "train_arm")
    assert int(scaled["mem_mb"]) == pytest.approx(2 * int(plain["mem_mb"]), abs=1)
    assert int(scaled["runtime"]) == 4 * int(plain["runtime"])


@pytest.mark.parametrize("profile", ["gpu", "allocation"])
def test_local_profiles_run_models_on_cards_one_job_each(checkout, profile):
    training = resources(asked(checkout, profile), "train_arm")
    assert training["gpu"] == "1"
    assert keys(profile)["resources"] == ["gpu=1"]


def test_a_model_that_does_not_fit_stops_the_run_before_any_job(checkout):
    checkout.overlay("small_card", {"device": "cuda", "resources": {"gpu_memory_gib": 1.0}})
    done = checkout.snakemake("--dry-run", check=False)
    assert done.returncode == 1
    assert "needs " in done.stdout
    assert "GiB, the card has 0.3 GiB" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_wrong_file_of_rates_stops_the_run_before_any_job(checkout):
    checkout.overlay("rates", {"rates": "nowhere.yaml"})
    done = checkout.snakemake("--dry-run", check=False)
    assert done.returncode == 1
    assert "rates: nowhere.yaml: " in done.stdout
    assert "Traceback" not in done.stdout


# ---- one allocation


@pytest.fixture
def allocation(tmp_path):
    """The batch script in a folder of its own, with a snakemake that notes how it was called."""
    root = tmp_path / "root"
    (root / "profiles/allocation").mkdir(parents=True)
    (root / ".venv/bin").mkdir(parents=True)
    script = root / "profiles/allocation/job.sh"
    script.write_text((ROOT / "profiles/allocation/job.sh").read_text())
    fake = root / ".venv/bin/snakemake"
    fake.write_text(
        '#!/bin/sh\necho "$@" > called; echo "$COLOCATE_ALLOCATION" >> called\n[ -z "$BODY" ] || eval "$BODY"\n'
    )
    fake.chmod(0o755)

    def run(**variables: str) -> subprocess.Popen:
        environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"} | variables
        environment["SLURM_SUBMIT_DIR"] = str(root)
        # SIGINT as slurmd leaves it: tests that a shell runs in the background have it ignored, and no trap would help.
        return subprocess.Popen(
            ["bash", str(script), "--configfile", "a.yaml"],
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    run.folder = root
    return run


def test_an_allocation_uses_the_cards_it_has(allocation):
    assert allocation(CUDA_VISIBLE_DEVICES="0,1,5").wait() == 0
    called, marked = (allocation.folder / "called").read_text().splitlines()
    assert called == "--profile profiles/allocation --resources gpu=3 --configfile a.yaml"
    assert marked == "1"
    assert allocation(CUDA_VISIBLE_DEVICES="7", COLOCATE_GPU_SHARE="2").wait() == 0
    assert "gpu=2" in (allocation.folder / "called").read_text()


def test_an_allocation_without_cards_says_so(allocation):
    process = allocation()
    assert process.wait() != 0
    assert "this allocation has no GPU" in process.stderr.read()


def test_an_allocation_fails_as_snakemake_does(allocation):
    assert allocation(CUDA_VISIBLE_DEVICES="0", BODY="exit 3").wait() == 3


def test_the_end_of_an_allocation_reaches_snakemake(allocation):
    body = "trap 'echo stopped > stopped; exit 1' INT; touch ready; while :; do sleep 0.05 & wait $!; done"
    process = allocation(CUDA_VISIBLE_DEVICES="0", BODY=body)
    while not (allocation.folder / "ready").exists():
        time.sleep(0.02)
    for _ in range(10):  # one that meets bash on its way into `wait` is seen after it; SLURM, too, sends several
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2)
            break
    assert process.returncode not in (None, 0)
    assert (allocation.folder / "stopped").read_text() == "stopped\n"
