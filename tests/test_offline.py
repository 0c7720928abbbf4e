"""Jobs need no network once `snakemake --cores 1 fetch` has run: a study in a network namespace that holds nothing."""

import shutil
import subprocess
import sys

import pytest

from tiny import GEOMETRY

CUT_OFF = (["unshare", "--net"], ["bwrap", "--dev-bind", "/", "/", "--unshare-net"])
LOOK = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"


def cut_off() -> list[str]:
    """A command that runs another without a network; skips the test, with the reason, where there is none."""
    said = []
    for command in CUT_OFF:
        if shutil.which(command[0]) is None:
            said.append(f"no {command[0]}")
            continue
        tried = subprocess.run([*command, "true"], capture_output=True, text=True)
        if tried.returncode == 0:
            return command
        said.append(f"{command[0]}: {tried.stderr.strip()}")
    pytest.skip(f"no namespace without a network can be made here ({'; '.join(said)})")


@pytest.mark.slow
def test_after_fetch_a_study_runs_without_a_network(checkout, tiny_llama):
    alone = cut_off()
    checkout.configfiles.append("config/ci.yaml")
    checkout.overlay(
        "tiny",
        {
            "study": "tiny",
            "select": {"models": ["tiny"], "arms": ["base", "colocated"], "benchmarks": ["mini_arc"]},
            "models": {"tiny": {"source": f"path:{tiny_llama}", "geometry": GEOMETRY, "dtype": "float32"}},
            "layer_sets": {"sensitive": {"top": 1}, "positional": {"top": 1}},
            "training": {"max_length": 1024},
            "statistics": {"primary_against": []},
        },
    )
    checkout.snakemake("fetch")
    # Nothing but the missing network keeps a job from asking for something.
    environment = {key: value for key, value in checkout.environment.items() if not key.endswith("_OFFLINE")}
    looked = subprocess.run([*alone, sys.executable, "-c", LOOK], capture_output=True, text=True)
    assert "OSError" in looked.stderr, "there is a network after all"
    command = [*alone, sys.executable, "-m", "snakemake", "statistics", "--cores", "2"]
    command += ["--configfile", *checkout.configfiles]
    done = subprocess.run(
        command, cwd=checkout.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-6000:]
    found = checkout.folder / "results/tiny/tiny"
    assert (found / "evaluations/colocated/seed0/mini_arc.json").exists()
    assert (found / "statistics/claims.csv").exists()
