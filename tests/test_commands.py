"""Every command of the README and of docs/ is run: for real where it takes seconds, as a dry run or not at all only
where the table below says why. A command that the table does not know fails, and so does a row without its command.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

import commands
import test_cluster
import test_environment
from conftest import ROOT
from finished import Study

pytestmark = pytest.mark.slow
COMMANDS = commands.of_pages(ROOT, "README.md", "CONTRIBUTING.md", "docs/*.md")
MODEL = "smollm2-135m"  # of the pages; here the tiny one goes by this name, too
REAL = f"config/config.yaml config/{MODEL.partition('-')[0]}-real.yaml"
LLAMA = "config/config.yaml config/llama31-8b.yaml"

# Run as they are printed, at a desk (the fixture below): what each must say.
RUN = {
    "make study": "reports/small.html",
    "make study CORES=4": "reports/small.html",
    "make PYTHON=python3.12 study": "reports/small.html",
    "make help": "make report-partial",
    "make lint": "Style: clean.",
    "make times": r"train_arm +3 ",
    "make report-partial": "reports/small-partial.html",
    'make compare STUDIES="smollm2 mine"': "reports/compare-smollm2-mine.html",
    'make plan CONFIG="config/config.yaml mine.yaml"': "The bill of study small",
    f'make plan CONFIG="{LLAMA}" GPUS=8 ARGS="--device cuda"': "The bill of study llama31-8b, models on GPUs",
    "snakemake -n": "jobs? would be|nothing to do",
    "snakemake --cores all": "reports/small.html",
    "snakemake --cores 1 fetch": "nothing to do",
    "snakemake --cores all profiles": "nothing to do",
    "snakemake --cores all train": "nothing to do",
    "snakemake -n --configfile config/config.yaml mine.yaml": "jobs? would be|nothing to do",
    "snakemake --cores all --configfile config/config.yaml mine.yaml": "reports/small.html",
    "snakemake --cores all --configfile config/config.yaml config/mine.yaml": "reports/small.html",
    "snakemake --cores all --configfile config/config.yaml config/mine.yaml -- fetch": "nothing to do",
    "snakemake --configfile config/config.yaml mine.yaml --report reports/STUDY-provenance.zip": "Report created",
    f"snakemake --profile slurm --configfile {LLAMA} --dry-run": "jobs would be",
    "python -m colocate.cluster check": "nothing found that would stop or hang a run",
    "python -m colocate.cluster wait": "none left in the queue",
    "python -m colocate.cluster cancel": "none left in the queue",
    f"python -m colocate.merge resources/models/{MODEL} results/smollm2/{MODEL}/adapters/standard_lora/seed0 "
    "merged/standard_lora": "",
}
# The same with DRY_RUN set, which the desk's snakemake takes for --dry-run: why it is not run to its end here.
CARD = "no card here; benchmarks/gpu.py is what runs on one"
CLUSTER = "tests/slurm runs the profile on a real SLURM"
NETWORK = "downloads from the hub; tests/test_datasets.py and test_hub_families.py fetch from a local one"
DRY = {
    "snakemake --profile profiles/gpu": CARD,
    "snakemake --profile profiles/gpu --resources gpu=4": CARD,
    "snakemake --profile slurm": CLUSTER,
    f"snakemake --profile slurm --configfile {LLAMA}": CLUSTER,
    "sbatch --partition=gpu --account=mine --gpus=4 --cpus-per-task=16 --mem=200G --time=24:00:00 "
    f"profiles/allocation/job.sh --configfile {LLAMA}": CLUSTER,
    f"snakemake --cores 1 --configfile {LLAMA} -- fetch": NETWORK,
    f"snakemake --cores 1 --configfile {REAL} -- fetch": NETWORK,
    f"snakemake --cores all --configfile {REAL}": "40 minutes; tests/test_tasks_real.py scores the published tasks",
    "snakemake --cores all --configfile config/config.yaml config/ci.yaml": "minutes; the finished study is made by it",
    "make suggest MODEL=/data/models/my-model DATA=my.jsonl": "a minute; tests/test_suggest.py runs it to its answer",
}
# pytest itself, on the files that the desk names in PYTEST_ADDOPTS: the suite would otherwise run within itself.
PYTEST = {
    "make test": "tests/test_formats.py",
    "python -m pytest tests/test_config.py": "--collect-only -q",
    'python -m pytest -m "not slow and not smollm2"': "tests/test_formats.py",
    "make test EXTRAS=gpu ARGS=-mfour_bit": "--collect-only -q tests/test_training.py",
}
# In a project without dependencies (test_environment.py), whose environment pip makes in seconds.
SET_UP = {
    "make env": set(),
    "make env EXTRAS=slurm": {"slurm"},
    "make env EXTRAS=gpu": {"gpu"},
    'make env EXTRAS="slurm gpu"': {"slurm", "gpu"},
}
# Run by a test of their own: where.
ELSEWHERE = {
    "python docs/make_reference.py": ("test_docs.py", "test_pages_that_are_written_by_a_program_are_up_to_date"),
    "python config/make_readme.py": ("test_config.py", "make_readme"),
    "python data/verify.py": ("test_data.py", "run_verify"),
    "python envs/make.py": ("test_environment.py", "test_recipes_are_those_of_the_lock"),
    ".ci/run": ("test_environment.py", "test_ci_runs_the_linters_and_the_readmes_test_command"),
    "kill -INT": ("test_logger.py", "test_an_interrupted_run_says_how_to_go_on"),
    "kill -9": ("slurm/test_slurm_driver.py", "SIGKILL"),
}
# Not run: the program is asked for its options alone where it is there, with what must be among them.
HELP = {
    "hf download ORG/NAME": ("hf download --help", "REPO_ID", NETWORK),
    "python -m nltk.downloader -d resources/nltk_data punkt_tab": (
        *("python -m nltk.downloader --help", "-d DIR", "downloads from NLTK's server"),
    ),
}
NEVER = {
    "cd /shared/me": "a folder of the reader's cluster",
    "git clone REPOSITORY colocate && cd colocate": "the address is the reader's",
    "export HF_HOME=/shared/me/huggingface": "changes the reader's shell alone",
    "export HF_TOKEN=...": "changes the reader's shell alone",
    "tmux new -s colocate": "opens a terminal",
    "sinfo -o %G": "asks a cluster for its cards",
}
OWN = ("make clean", "make compare", "source .venv/bin/activate")  # tests below
KNOWN = [*RUN, *DRY, *PYTEST, *SET_UP, *ELSEWHERE, *HELP, *NEVER, *OWN]

SNAKEMAKE = f'#!/bin/sh\nexec {sys.executable} -m snakemake ${{DRY_RUN:+--dry-run}} "$@"\n'
# Takes its own options, and starts the script at once with the cards that it was asked for.
SBATCH = """#!/bin/sh
while case "$1" in --*=*) true;; *) false;; esac; do shift; done
CUDA_VISIBLE_DEVICES=0,1,2,3 SLURM_SUBMIT_DIR=$PWD exec bash "$@"
"""
ANSWERS = {"squeue": "", "scontrol": test_cluster.CONFIG, "sinfo": test_cluster.PARTITIONS, "stat": "nfs\n"}


# ---- which commands there are


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_run_or_the_table_says_why_not(command):
    assert command in KNOWN, f"{command} ({', '.join(COMMANDS[command])}): no test runs it; add it to a table above"


def test_the_tables_have_no_command_that_no_page_has():
    assert sorted(set(KNOWN) - set(COMMANDS)) == []
    assert len(KNOWN) == len(set(KNOWN))


PAGE = """
Run `make one` or `python -m
two`, not `make`.

```bash
mystery three  # said
A=1 make four \\
    --x
```

    make five    # indented
    key: value

```yaml
make: six
```

- a list

  ```
  make seven
  1 2
  ```
"""


def test_commands_are_found_wherever_they_stand():
    found = ["mystery three", "A=1 make four --x", "make seven", "make five", "make one", "python -m two"]
    assert commands.of_text(PAGE) == found


def test_the_pages_speak_of_what_a_user_begins_with():
    assert {"make study", "make test", "make times", "make suggest MODEL=/data/models/my-model DATA=my.jsonl"} <= {
        command for command, pages in COMMANDS.items() if "README.md" in pages
    }


# ---- the desk: a finished study with all that stands around it in a clone


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def desk(finished, tmp_path_factory) -> Study:
    """The finished small study as the default one of a clone, with an environment and programs of a cluster."""
    desk = finished.clone(tmp_path_factory.mktemp("desk") / "clone")
    for name in ("Makefile", "pyproject.toml", "README.md", "benchmarks", "docs", "envs", "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, desk.folder / name)
    (desk.folder / "slurm").symlink_to("profiles/slurm")

    merged: dict = {}
    for name in desk.configfiles:
        update_config(merged, yaml.safe_load((desk.folder / name).read_text()))
    (desk.folder / "config/config.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))
    for name in ("mine.yaml", "config/mine.yaml"):  # the reader's own: another price
        (desk.folder / name).write_text("prices: {gpu_hour: 3.0}\n")
    trim(desk.folder / "config/llama31-8b.yaml", models=1, benchmarks=1, arms=2)
    trim(desk.folder / "config/smollm2-real.yaml", benchmarks=1, arms=2)

    for study in ("smollm2", "mine"):  # under the names of the pages
        shutil.copytree(desk.folder / "results/small/tiny", desk.folder / f"results/{study}/{MODEL}")
    adapters = desk.folder / f"results/smollm2/{MODEL}/adapters"
    shutil.copytree(adapters / "mid_block", adapters / "standard_lora")
    shutil.copytree(desk.folder / "resources/models/tiny", desk.folder / f"resources/models/{MODEL}")
    (desk.folder / "my.jsonl").write_text((ROOT / "data/instructions/train.jsonl").read_text())

    desk.programs = desk.folder / ".programs"
    for name, prints in ANSWERS.items():
        program(desk.programs / name, f"#!/bin/sh\ncat <<'END'\n{prints}END\n")
    program(desk.programs / "sbatch", SBATCH)
    program(desk.programs / "python3.12", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    environment = desk.folder / ".venv"
    program(environment / "bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program(environment / "bin/snakemake", SNAKEMAKE)
    stamp = {"root": str(desk.folder), "python": "{}.{}".format(*sys.version_info), "packages": []}
    stamp |= {"digest": test_environment.create["digest"](desk.folder), "extras": ["gpu", "slurm"]}
    (environment / "colocate.json").write_text(json.dumps(stamp))
    return desk


def trim(overlay: Path, **lengths: int) -> None:
    """The same overlay with the first so many of each: tests/test_overlays.py plans them whole."""
    values = yaml.safe_load(overlay.read_text())
    values["select"] |= {name: values["select"][name][:n] for name, n in lengths.items()}
    overlay.write_text(yaml.safe_dump(values | {"seeds": [0], "statistics": {"primary_against": []}}, sort_keys=False))


def run(desk: Study, command: str, tiny_llama: Path, **environment: str) -> subprocess.CompletedProcess:
    """The command as a shell that has activated the environment takes it; both streams are in `stdout`."""
    path = f"{desk.programs}:{desk.folder}/.venv/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {name: value for name, value in desk.environment.items() if name != "COLOCATE_DATASETS"}
    return subprocess.run(
        ["bash", "-c", command.replace("/data/models/my-model", str(tiny_llama))],
        cwd=desk.folder,
        env=variables | {"PATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("command", RUN)
def test_what_is_run_for_real(desk, tiny_llama, command):
    done = run(desk, command, tiny_llama)
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(RUN[command], done.stdout, re.IGNORECASE), done.stdout[-3000:]
    if "merge" in command:
        assert (desk.folder / "merged/standard_lora/model.safetensors").is_file()


@pytest.mark.parametrize("command", DRY)
def test_what_is_planned_and_not_run(desk, tiny_llama, command):
    if "slurm" in command or "sbatch" in command:
        pytest.importorskip("snakemake_executor_plugin_slurm", reason="make env EXTRAS=slurm brings it")
    done = run(desk, command, tiny_llama, DRY_RUN="1", ARGS="--dry-run")
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"Nothing has been run; \d+ jobs? would be", done.stdout), done.stdout[-3000:]


@pytest.mark.parametrize("command", PYTEST)
def test_what_runs_tests(desk, tiny_llama, command):
    done = run(desk, command, tiny_llama, PYTEST_ADDOPTS=f"-p no:cacheprovider {PYTEST[command]}")
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"\d+ passed|\d+/?\d* tests? collected", done.stdout), done.stdout[-3000:]


def test_a_comparison_without_names_says_what_to_name(desk, tiny_llama):
    done = run(desk, "make compare", tiny_llama)
    assert done.returncode != 0
    assert 'name the studies to compare, folders of results/: make compare STUDIES="a b"' in done.stdout


# ---- set-up


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    return test_environment.make_project(tmp_path_factory.mktemp("bare") / "project")


@pytest.mark.parametrize("command", SET_UP)
def test_what_sets_the_environment_up(bare, command):
    done = test_environment.make(
        bare, *[word.replace('"', "") for word in re.findall(r'EXTRAS=(?:".*?"|\S+)', command)]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SET_UP[command] <= set(json.loads((bare / ".venv/colocate.json").read_text())["extras"])
    activated = ["bash", "-c", "source .venv/bin/activate && command -v python"]
    found = subprocess.run(activated, cwd=bare, capture_output=True, text=True, check=True).stdout.strip()
    assert found == str(bare / ".venv/bin/python")


def test_clean_keeps_what_a_run_made(tmp_path):
    root = test_environment.make_project(tmp_path / "project")
    for name in (
        ".venv/bin/python",
        "results/a/config.yaml",
        "resources/models/m",
        "reports/a.html",
        "src/__pycache__/x",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    subprocess.run(["make", "clean"], cwd=root, check=True, capture_output=True)
    assert not (root / ".venv").exists()
    assert not (root / "src/__pycache__").exists()
    assert all((root / name).exists() for name in ("results/a/config.yaml", "resources/models/m", "reports/a.html"))


# ---- the rest


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_another_test_runs(command):
    file, word = ELSEWHERE[command]
    assert word in (ROOT / "tests" / file).read_text(), f"{file} has no {word}"
    script = command.split()[-1]
    assert script.startswith("-") or (ROOT / script).is_file()


@pytest.mark.parametrize("command", HELP)
def test_what_needs_a_network_knows_its_options(command):
    question, option, _ = HELP[command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", question], capture_output=True, text=True, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stderr
    assert option in done.stdout
