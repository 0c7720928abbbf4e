"""What a study survives: jobs killed at any moment, full and read-only disks, a vanished model, damaged adapters."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from colocate import files
from colocate.errors import InputError
from conftest import Checkout

# Rule: one of its jobs. Small and large outputs, one and several, folders that others write into at the same time.
JOBS = {
    "train_arm": "adapters/colocated/seed0/manifest.json",
    "evaluate_arm": "evaluations/colocated/seed0/mini_arc.json",
    "profile_layers": "profiles/sensitivity_all.csv",
    "select_layers": "layer_sets/sensitive.json",
    "draw_figure": "figures/profiles.svg",
    "write_report": "",
}
KILLS = 3


class Script:
    """The command of one job, to be run by hand in a study's folder."""

    def __init__(self, study, rule: str):
        target = f"results/small/tiny/{JOBS[rule]}" if JOBS[rule] else "reports/small.html"
        # The target comes first: --allowed-rules takes all that follows it.
        options = ["--dry-run", "--printshellcmds", "--forcerun", rule, "--allowed-rules", rule]
        printed = study.snakemake(target, *options).stdout
        commands = [line.strip() for line in printed.splitlines() if f'"$SCRIPTS"/{rule}.py' in line]
        assert len(commands) == 1, printed[-3000:]
        self.folder, self.command = study.folder, commands[0]
        scripts = study.folder / "workflow/scripts"
        self.environment = study.environment | {"PYTHON": sys.executable, "SCRIPTS": str(scripts)}
        words = shlex.split(self.command)
        self.log = self.folder / words[words.index("--log") + 1]
        names = re.search(r'(?:outputs=|OUTPUTS = )"([^"]+)"', (scripts / f"{rule}.py").read_text())[1].split()
        self.outputs = [self.folder / words[words.index(f"--{name}") + 1] for name in names]

    def start(self, prefix: str = "") -> subprocess.Popen:
        return subprocess.Popen(
            prefix + self.command,
            shell=True,
            executable="/bin/bash",
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, prefix: str = "") -> tuple[int, str]:
        process = self.start(prefix)
        printed, _ = process.communicate()
        return process.returncode, printed

    def contents(self) -> dict[str, bytes | None]:
        """Outputs without the run record, which holds seconds; None for those that are not there."""
        kept = [path for path in self.outputs if ".run." not in path.name]
        return {path.name: path.read_bytes() if path.exists() else None for path in kept}

    def remove(self) -> None:
        for path in self.outputs:
            path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    return finished.clone(tmp_path_factory.mktemp("faults") / "clone")


@pytest.mark.slow
@pytest.mark.parametrize("rule", JOBS)
def test_a_killed_job_leaves_no_half_file(study, rule):
    """kill -9 at random moments, the last ones near the end, where files are put in place; then it runs through."""
    script = Script(study, rule)
    started = time.monotonic()
    code, printed = script.run()
    took = time.monotonic() - started
    assert code == 0, printed
    whole = script.contents()
    assert whole
    assert all(whole.values())
    draw = random.Random(rule)
    for number in range(KILLS):
        script.remove()
        process = script.start()
        time.sleep(took * (draw.uniform(0.2, 0.9) if number < KILLS - 1 else draw.uniform(0.9, 1.0)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for name, content in script.contents().items():
            assert content is None or content == whole[name], f"{name} after kill {number}"
    code, printed = script.run()
    assert code == 0, printed
    assert script.contents() == whole
    left = [path.name for folder in {path.parent for path in script.outputs} for path in folder.glob(".????????.*")]
    assert not [name for name in left if any(name.endswith(path.name) for path in script.outputs)]


@pytest.mark.slow
def test_a_disk_that_fills_up_is_named_and_nothing_half_is_left(study):
    """A limit on the size of files stands for a full disk: the same kind of error from the same write."""
    script = Script(study, "draw_figure")
    before = script.contents()
    code, printed = script.run("ulimit -f 8; ")
    assert code != 0
    said = script.log.read_text() if script.log.stat().st_size else printed
    assert "results/small/tiny/figures" in said
    assert "cannot be written: File too large" in said
    assert script.contents() == before


@pytest.mark.slow
def test_a_flipped_byte_in_an_adapter_is_found_before_a_model_is_loaded(finished, tmp_path):
    study = finished.clone(tmp_path / "clone")
    script = Script(study, "evaluate_arm")
    adapter = study.folder / "results/small/tiny/adapters/colocated/seed0/adapter_model.safetensors"
    content = bytearray(adapter.read_bytes())
    content[-5] ^= 1
    adapter.write_bytes(content)
    code, _ = script.run()
    assert code != 0
    said = script.log.read_text()
    assert "adapter_model.safetensors: is damaged: it is not what was written" in said
    assert "load_model" not in said


@pytest.mark.slow
def test_a_vanished_model_is_prepared_again_or_named(finished, tmp_path):
    """Without its manifest the workflow prepares the model again; without its weights, the job says which file."""
    study = finished.clone(tmp_path / "clone")
    script = Script(study, "evaluate_arm")
    weights = next((study.folder / "resources/models/tiny").glob("*.safetensors"))
    weights.unlink()
    code, _ = script.run()
    assert code != 0
    assert "resources/models/tiny" in script.log.read_text().splitlines()[-1]
    (study.folder / "resources/models/tiny/manifest.json").unlink()
    (study.folder / "results/small/tiny/evaluations/colocated/seed0/mini_arc.json").unlink(missing_ok=True)
    assert "prepare_model" in {job.split()[0] for job in study.would_run("evaluate")}


@pytest.mark.slow
def test_read_only_results_are_named_before_any_job(finished, tmp_path):
    study = finished.clone(tmp_path / "clone")
    (study.folder / "reports/small.html").unlink()
    command = "mount --bind results results && mount -o remount,ro,bind results && exec "
    options = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", *study.configfiles]
    probe = ["unshare", "--mount", "--map-root-user", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a mount of their own (unshare)")
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "bash", "-c", command + shlex.join(options)],
        cwd=study.folder,
        env=study.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode != 0
    assert f"{study.folder / 'results'}: cannot be written (read-only, or not yours)" in " ".join(done.stdout.split())
    assert not (study.folder / "reports/small.html").exists()


def test_a_full_disk_is_named_at_the_start(tmp_path):
    files.check_places([tmp_path / "not/there/yet"], least_free=1)
    with pytest.raises(InputError, match=rf"{tmp_path}: \d+ MiB free on its disk, at least \d+ are needed"):
        files.check_places([tmp_path / "not/there/yet"], least_free=2**60)


def test_a_disk_that_is_too_small_for_what_is_to_be_written_is_named(tmp_path, monkeypatch):
    """Folders on one disk share its room."""
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**30))
    files.check_room({tmp_path / "results": 2**30, tmp_path / "resources": 1.8 * 2**30})
    with pytest.raises(InputError, match=rf"{tmp_path}: 3.0 GiB free on its disk, .* leave about 3.0 GiB there"):
        files.check_room({tmp_path / "results": 2**30, tmp_path / "resources": 2 * 2**30})


SMALL_DISK = """import shutil
from types import SimpleNamespace
shutil.disk_usage = lambda _: SimpleNamespace(free=200 * 2**20)
"""


def test_a_study_on_too_small_a_disk_stops_before_its_first_job(tmp_path):
    checkout = Checkout(tmp_path / "study")
    (tmp_path / "python").mkdir()
    (tmp_path / "python/sitecustomize.py").write_text(SMALL_DISK)
    checkout.environment |= {"PYTHONPATH": str(tmp_path / "python")}
    checkout.snakemake("--dry-run")  # a plan needs no room
    done = checkout.snakemake(check=False)
    assert done.returncode != 0
    assert "0.2 GiB free on its disk, and this run will leave about 0.6 GiB there" in " ".join(done.stdout.split())
    assert not list(checkout.folder.glob("logs/**/*.log"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"othe"), "is damaged"),
        (lambda path: path.write_bytes(b"ot"), "is damaged"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_files_are_held_against_their_manifest(tmp_path, damage, said):
    path, manifest = tmp_path / "adapter.bin", tmp_path / "manifest.json"
    path.write_bytes(b"other")
    manifest.write_text(json.dumps({"sha256": {path.name: files.sha256(path)}}))
    files.verify(manifest)
    damage(path)
    with pytest.raises(InputError, match=rf"adapter\.bin: {said}"):
        files.verify(manifest)
