"""A cluster for each file of tests, and the undisturbed study that the disturbed ones are measured by."""

import tempfile
from pathlib import Path

import pytest
from cluster import Cluster
from studies import Study, finish, jobs, start, study


@pytest.fixture(scope="module")
def cluster(request):
    """With slurmdbd where the file of tests says ACCOUNTING = True."""
    accounting = getattr(request.module, "ACCOUNTING", False)
    home = tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp")
    with home as folder, Cluster(Path(folder), accounting=accounting) as running:
        yield running


@pytest.fixture(scope="session")
def undisturbed() -> dict[str, Study]:
    """Undisturbed runs of this session, by where they ran."""
    return {}


@pytest.fixture(scope="module")
def green(cluster, tiny_llama, undisturbed, tmp_path_factory) -> Study:
    """An undisturbed run through SLURM: its checkout, what it printed, and the jobs that SLURM saw."""
    checkout = study(tmp_path_factory.mktemp("slurm") / "green", tiny_llama)
    printed = finish(start(checkout, cluster))
    undisturbed["slurm"] = Study(checkout, printed, jobs(checkout, cluster))
    return undisturbed["slurm"]


@pytest.fixture
def reference(tiny_llama, undisturbed, tmp_path_factory) -> Study:
    """An undisturbed run: through SLURM if there was one in this session, else on this machine."""
    if not undisturbed:
        checkout = study(tmp_path_factory.mktemp("slurm") / "local", tiny_llama)
        undisturbed["local"] = Study(checkout, checkout.snakemake("statistics", "--config", "device=cpu").stdout, [])
    return next(iter(undisturbed.values()))
