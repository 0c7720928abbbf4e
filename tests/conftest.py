"""Fixtures shared by the tests: tiny random models made here, and the real SmolLM2 prepared once per checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from axe import axe  # noqa: E402, F401
from browser import chromium  # noqa: E402, F401

ROOT = Path(__file__).resolve().parents[1]


def pytest_runtest_setup(item):
    if item.get_closest_marker("four_bit"):
        pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> Path:
    """Folder of a tiny random Llama with grouped-query attention (see tiny.make_model)."""
    from tiny import make_model

    return make_model(tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def mixture(tmp_path_factory) -> dict[str, Path]:
    """Files of a toy mixture, by split (see toy_training.write_mixture)."""
    from toy_training import write_mixture

    return write_mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory) -> Path:
    """The synthetic study with all that a page can hold (see item_level.make_study); not to be changed."""
    from item_level import make_study

    return make_study(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def whole_page(whole_study) -> Path:
    """Its report."""
    from item_level import write_page

    return write_page(whole_study, "page")


@pytest.fixture(scope="module")
def one_thread():
    """Bit-equal results need one order of summation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def copy(tiny_llama, tmp_path) -> Path:
    """A copy of tiny_llama that a test may damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in tiny_llama.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of the real SmolLM2-135M-Instruct as the workflow prepares it."""
    from colocate import downloads, preparation

    entry = yaml.safe_load((ROOT / "config/config.yaml").read_text())["models"]["smollm2-135m"]
    download, folder = ROOT / "resources/downloads/smollm2-135m", ROOT / "resources/models/smollm2-135m"
    if not (folder / "manifest.json").exists():
        if not (download / "download.json").exists():
            downloads.fetch_model(entry["source"], download, sha256=entry["sha256"])
        preparation.prepare_model(entry["source"], download, folder, geometry=entry["geometry"])
    return folder


class Checkout:
    """A copy of the workflow in a folder of its own, as a fresh clone would be; the package is the installed one."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("workflow", "config", "data", "profiles"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
        self.configfiles = ["config/config.yaml"]
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }

    def overlay(self, name: str, values: dict) -> None:
        """Add an overlay to the config files of every run."""
        path = self.folder / "config" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        self.configfiles.append(str(path.relative_to(self.folder)))

    def snakemake(self, *options: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run snakemake on two cores in this folder; both streams are in `stdout`."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *options]
        if len(self.configfiles) > 1:
            command += ["--configfile", *self.configfiles]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if check:
            assert done.returncode == 0, done.stdout[-6000:]
        return done


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def finished(tiny_llama, tmp_path_factory):
    """A small study that was run to its report (see finished.finished_study); tests change clones of it."""
    from finished import Study, finished_study

    ready = os.environ.get("COLOCATE_FINISHED_STUDY")  # kept from an earlier session while tests are written
    if ready:
        return Study.existing(Path(ready))
    return finished_study(tmp_path_factory.mktemp("finished") / "checkout", tiny_llama)
