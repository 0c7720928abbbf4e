"""The environment: the lock is complete and exact, the recipes agree with it, set-up creates and repairs `.venv`."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ENVS = ROOT / "envs"
create = runpy.run_path(str(ENVS / "create.py"))
recipes = runpy.run_path(str(ENVS / "make.py"))
PINS = recipes["read_pins"](ENVS / "lock.txt")
EXTRA_PINS = recipes["read_pins"](ENVS / "extras.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Stands in for setuptools, so that a project without dependencies installs without a network.
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "colocate-0.1.0-py3-none-any.whl"
    files = {
        "colocate.pth": str(Path("src").resolve()),
        "colocate-0.1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: colocate\\nVersion: 0.1.0\\n"
            "Provides-Extra: test\\nProvides-Extra: slurm\\nProvides-Extra: gpu\\n",
        "colocate-0.1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\n"
            "Tag: py3-none-any\\n",
    }
    record = "".join(f"{name},,\\n" for name in [*files, "colocate-0.1.0.dist-info/RECORD"])
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for path, text in {**files, "colocate-0.1.0.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""


# ---- the lock and what is made from it


def test_the_lock_has_exact_public_versions_and_nothing_else():
    for name in ("lock.txt", "extras.txt"):
        lines = [line for line in (ENVS / name).read_text().splitlines() if line and not line.startswith("#")]
        assert lines
        for line in lines:
            assert re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9a-z.]+", line), line
    assert PINS["torch"] == "2.13.0"
    brought_by_torch = [name for name in PINS | EXTRA_PINS if name.startswith(("nvidia-", "triton", "cuda-"))]
    assert brought_by_torch == []


def test_the_lock_covers_everything_the_project_needs():
    optional = PROJECT["optional-dependencies"]
    needed = recipes["closure"]([*PROJECT["dependencies"], *optional["test"]])
    assert {name: PINS.get(name) for name in needed} == needed
    direct = {canonicalize_name(Requirement(text).name) for extra in ("slurm", "gpu") for text in optional[extra]}
    assert direct <= set(EXTRA_PINS)
    assert set(PINS) & set(EXTRA_PINS) == set()


def test_these_tests_run_in_the_locked_environment():
    found = {name: metadata.version(name).partition("+")[0] for name in PINS}
    assert found == PINS


def test_recipes_are_those_of_the_lock():
    for name, text in recipes["recipe_texts"]().items():
        assert (ENVS / name).read_text(encoding="utf-8") == text, f"run: python envs/make.py recipes ({name})"


def test_the_conda_recipe_has_the_same_versions():
    parts = yaml.safe_load((ENVS / "environment.yaml").read_text())["dependencies"]
    [pip] = [part["pip"] for part in parts if isinstance(part, dict)]
    assert dict(line.split("==") for line in pip) == PINS
    [python] = [part.partition("=")[2] for part in parts if isinstance(part, str) and part.startswith("python=")]
    assert PROJECT["requires-python"] == f">={python}"


def test_the_container_recipe_copies_what_exists_and_installs_by_the_lock():
    text = (ENVS / "Containerfile").read_text()
    sources = [source for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for source in line.split()]
    assert len(sources) > 8
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert "pip install --no-cache-dir -c envs/lock.txt -c envs/extras.txt -e" in text


# ---- what set-up says and decides


def test_an_old_python_is_told_so_and_can_read_the_script():
    ast.parse((ENVS / "create.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    with pytest.raises(
        create["CannotCreate"], match=r"Python 3\.11 or newer is needed; /usr/bin/python3 is Python 3\.9"
    ):
        create["check_python"]((3, 9, 2), True, "/usr/bin/python3")
    create["check_python"]((3, 11, 0), True, "/usr/bin/python3")
    assert "Python {}.{}".format(*create["OLDEST"]) in f"Python {PROJECT['requires-python'].removeprefix('>=')}"


def test_a_python_without_ensurepip_names_the_package_to_install(tmp_path):
    project = make_project(tmp_path)
    hidden = "import sys, runpy; sys.modules['ensurepip'] = None; sys.argv = ['create.py']; runpy.run_path("
    command = [sys.executable, "-c", hidden + f"{str(project / 'envs/create.py')!r}, run_name='__main__')"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    package = "python{}.{}-venv".format(*sys.version_info)
    assert f"apt-get install {package}" in answer.stderr
    assert not (project / ".venv").exists()


def stamped(folder: Path, **changes) -> Path:
    """A project whose `.venv` looks as set-up leaves it."""
    make_project(folder)
    venv = folder / ".venv"
    packages = venv / "lib/python3.11/site-packages"
    (packages / "numpy-2.4.6.dist-info").mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin/python").touch()
    stamp = {"root": str(folder), "python": "3.11", "digest": create["digest"](folder), "extras": ["slurm"]}
    (venv / "colocate.json").write_text(json.dumps(stamp | {"packages": ["numpy-2.4.6.dist-info"]} | changes))
    return folder


@pytest.mark.parametrize("python", [None, "3.11"])
def test_an_environment_that_fits_is_kept(tmp_path, python):
    state = create["state"]
    root = stamped(tmp_path)
    assert state(root, [], python) == ("keep", "")
    assert state(root, ["slurm"], python) == ("keep", "")


def test_what_does_not_fit_is_updated_or_made_anew(tmp_path):
    state = create["state"]
    cases = {
        "lock": lambda root: (root / "envs/lock.txt").write_text("numpy==2.4.7\n"),
        "project": lambda root: (root / "pyproject.toml").write_text("[project]\n"),
        "package": lambda root: (root / ".venv/lib/python3.11/site-packages/numpy-2.4.6.dist-info").rmdir(),
        "unfinished": lambda root: (root / ".venv/unfinished").touch(),
        "no python": lambda root: (root / ".venv/bin/python").unlink(),
        "no stamp": lambda root: (root / ".venv/colocate.json").unlink(),
        "no environment": lambda root: shutil.rmtree(root / ".venv"),
    }
    found = {}
    for number, (name, damage) in enumerate(cases.items()):
        root = tmp_path / str(number)
        damage(stamped(root))
        found[name] = state(root, [])[0]
    updated = {"lock", "project", "package"}
    assert found == {name: "update" if name in updated else "create" for name in cases}
    assert state(stamped(tmp_path / "moved", root="/elsewhere"), [])[0] == "create"
    assert state(stamped(tmp_path / "python"), [], "3.12")[0] == "create"
    assert state(stamped(tmp_path / "extras"), ["gpu"]) == ("update", "to add gpu")


# ---- set-up itself


def make_project(root: Path) -> Path:
    """A project without dependencies that set-up can install anywhere."""
    (root / "envs").mkdir(parents=True)
    (root / "src").mkdir()
    shutil.copy(ENVS / "create.py", root / "envs")
    shutil.copy(ROOT / "Makefile", root)
    (root / "envs/lock.txt").write_text("numpy==2.4.6\n")
    (root / "envs/extras.txt").write_text("bitsandbytes==0.50.2\n")
    (root / "backend.py").write_text(BACKEND)
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (root / "pyproject.toml").write_text(build)
    return root


def make(root: Path, *arguments: str, path: str = "", python: str = sys.executable):
    """`make env` in an empty environment, by the Python of these tests under the name python3.

    PATH holds `path` and this machine's programs but for those that set-up finds extras by.
    """
    programs = root.parent / "programs"
    if not programs.exists():
        programs.mkdir()
        (programs / "python3").symlink_to(getattr(sys, "_base_executable", python))
        for program in [*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()]:
            if program.name not in create["DETECTED"].values() and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    settings = {"PATH": f"{path}:{programs}".lstrip(":"), "HOME": str(root.parent), "PIP_NO_INDEX": "1"}
    command = ["make", "--no-print-directory", "env", *arguments]
    return subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_set_up_from_nothing_to_every_repair(tmp_path):
    root = make_project(tmp_path / "project")
    venv = root / ".venv"
    mark = venv / "mark"  # is gone after a fresh start, stays through an update

    first = make(root)
    assert first.returncode == 0, first.stderr
    assert "creating .venv (there is none)" in first.stdout
    python = subprocess.run([venv / "bin/python", "-c", "import sys; print(sys.path)"], capture_output=True, text=True)
    assert str(root / "src") in python.stdout

    mark.touch()
    start = time.monotonic()
    again = make(root)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("Environment: .venv is there and up to date. Next: make study")
    assert time.monotonic() - start < 5

    (root / "envs/lock.txt").write_text("numpy==2.4.7\n")
    changed = make(root)
    assert "updating .venv (the lock or pyproject.toml has changed)" in changed.stdout
    assert mark.exists()

    backend = (root / "backend.py").read_text()
    (root / "backend.py").write_text("raise RuntimeError('no backend today')\n")
    (root / "envs/lock.txt").write_text("numpy==2.4.8\n")
    failed = make(root)
    assert failed.returncode != 0
    assert "pip failed" in failed.stderr
    assert "no backend today" in failed.stderr
    (root / "backend.py").write_text(backend)
    assert "updating" in make(root).stdout
    assert mark.exists()

    (venv / "colocate.json").unlink()
    assert "updating .venv (it was not made by this set-up)" in make(root).stdout
    assert mark.exists()

    (venv / "unfinished").touch()
    assert "an earlier set-up did not finish" in make(root).stdout
    assert not mark.exists()

    shutil.rmtree(venv / "bin")
    assert "creating .venv (it is broken)" in make(root).stdout

    moved = tmp_path / "moved"
    root.rename(moved)
    assert "the folder has moved" in make(moved).stdout
    assert "is there and up to date" in make(moved).stdout


@pytest.mark.slow
def test_extras_are_asked_for_or_found_and_stay(tmp_path):
    root = make_project(tmp_path / "project")
    unknown = make(root, "EXTRAS=tpu")
    assert unknown.returncode != 0
    assert "unknown extra tpu; there are: slurm gpu" in unknown.stderr
    assert "extras gpu" in make(root, "EXTRAS=gpu").stdout
    programs = tmp_path / "cluster"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\n")
    (programs / "sbatch").chmod(0o755)
    assert "to add slurm" in make(root, path=str(programs)).stdout
    assert json.loads((root / ".venv/colocate.json").read_text())["extras"] == ["gpu", "slurm"]
    assert "is there and up to date" in make(root).stdout


def test_no_python_at_all(tmp_path):
    answer = make(make_project(tmp_path / "project"), "PYTHON=python9")
    assert answer.returncode != 0
    assert "no python9 on PATH" in answer.stderr


# ---- what people read and what machines run


def test_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    answer = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.findall(r"^  make ([\w-]+) +\S", answer.stdout, re.MULTILINE) == phony.split()


def test_every_target_that_runs_the_project_sets_the_environment_up_and_runs_its_python():
    """Not another `python` that happens to be on PATH, nor none where there is no .venv yet."""
    recipes = re.findall(r"^([a-z-]+):(.*?)  ## .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    ours = {name: (needs.split(), recipe) for name, needs, recipe in recipes if "$(IN_ENV)" in recipe}
    assert set(ours) > {"study", "plan", "times", "report-partial", "compare", "test", "lint"}
    for name, (needs, recipe) in ours.items():
        assert needs == ["env"], name
        assert set(re.findall(r"(\S+) -m ", recipe)) <= {".venv/bin/python"}, name


def test_the_readme_speaks_of_targets_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())
    commands = set(re.findall(r"\bmake (\w+)", " ".join(re.findall(r"```(?:bash|sh)?\n(.*?)```", text, re.DOTALL))))
    assert {"study", "test"} <= commands <= targets


def test_ci_runs_the_linters_and_the_readmes_test_command():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    targets = re.findall(r"^make --no-print-directory (\w+)", text, re.MULTILINE)
    assert targets == ["env", "lint", "test"]
    assert text.rstrip().splitlines()[-1].startswith("exit")


def test_the_citation_file_names_both_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    years = [(entry["authors"][0]["family-names"], entry["year"]) for entry in cited["references"]]
    assert years == [("Rao", 2026), ("Zhao", 2026)]
    known = "cff-version message title type version license authors abstract references keywords repository-code"
    assert {"cff-version", "message", "title", "authors"} <= set(cited) <= set(known.split())  # of CFF 1.2.0
    in_reference = {"type", "title", "authors", "year", "identifiers", "conference"}
    assert all({"type", "title", "authors"} <= set(entry) <= in_reference for entry in cited["references"])


def test_the_workflow_catalogue_finds_what_it_needs():
    catalogue = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    assert set(catalogue["usage"]) <= {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(catalogue["usage"]["software-stack-deployment"]) <= {"conda", "apptainer", "apptainer+conda"}
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml", "README.md", "LICENSE"):
        assert (ROOT / name).is_file(), name
