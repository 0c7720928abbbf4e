"""Exactly what runs again after a change: each row of docs/reruns.md as a dry run of one finished small study."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from colocate.figures import FIGURES
from conftest import ROOT, Checkout
from finished import OVERLAY

pytestmark = pytest.mark.slow
ARMS = ["colocated", "mid_block", "garfa_sensitive"]  # LoRA and GARFA, LoRA, GARFA
REPORT = {"write_report", "describe_run"}
BILL = {"collect_compute", "compare_models"} | REPORT  # after any job
RECORD = {"record_config"} | BILL  # any change of the config
COMPARED = {"contrast_arms", "compare_base", "judge_claims", "recommend_layers"} | BILL
COMPARED |= {f"draw_figure {name}" for name in ("arms", "benchmarks", "forgetting", "heatmap")}
LEARNED = {"draw_figure training", "draw_figure alphas", "draw_figure changes"}
ALL_FIGURES = {f"draw_figure {name}" for name in FIGURES} | BILL


def evaluated(*arms: str, seed: int = 0, benchmark: str = "mini_arc") -> set[str]:
    return {f"evaluate_arm {arm} seed {0 if arm == 'base' else seed} {benchmark}" for arm in arms}


def trained(*arms: str, seed: int = 0) -> set[str]:
    """Training and what is measured and drawn of it; resolving comes before and is not in here."""
    runs = {f"train_arm {arm} seed {seed}" for arm in arms} | evaluated(*arms, seed=seed)
    measured = {f"profile_arm {arm} seed {seed} weight_change" for arm in arms}
    return runs | measured | {f"measure_drift {arm} seed {seed}" for arm in arms} | LEARNED | COMPARED


def resolved(*arms: str, seed: int = 0) -> set[str]:
    return {f"resolve_arm {arm} seed {seed}" for arm in arms} | {"draw_figure layer_sets"}


# ------------------------------------------------------------------------------------------------- changes of a study


def config(values: dict):
    return lambda study: study.overlay("change", values)


def edit(path: str, old: str, new: str, n: int = 1):
    def change(study):
        file = study.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, n))

    return change


def append(path: str, text: str):
    return lambda study: (study.folder / path).write_text((study.folder / path).read_text() + text)


def reorder(study) -> None:
    """Every key of every config file in the opposite order."""

    def turned(value):
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    for name in study.configfiles:
        file = study.folder / name
        file.write_text(yaml.safe_dump(turned(yaml.safe_load(file.read_text())), sort_keys=False))


def touch(study) -> None:
    for folder in ("src", "data", "workflow", "config", "profiles"):
        for path in (study.folder / folder).rglob("*"):
            os.utime(path)
    os.utime(study.folder / "Snakefile")


def install(name: str):
    """Another version of a package, as a changed lock file brings it."""

    def change(study):
        folder = study.folder / "installed" / f"{name}-99.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
        path = study.environment["PYTHONPATH"]
        study.environment = study.environment | {"PYTHONPATH": f"{folder.parent}:{path}"}

    return change


def delete_adapter(study) -> None:
    (study.folder / "results/small/tiny/adapters/mid_block/seed0/adapter_model.safetensors").unlink()


def select(**lists) -> dict:
    return {"select": OVERLAY["select"] | lists}


PAIRS = {"check_pairs", "check_tokens", "check_contamination", "select_layers sensitive"}
PROFILED = {"profile_layers rope_output", "correlate_profiles", "resample_items", "score_metrics"}
SHOWN = "controls correlation correlation_matrix layer_gain profiles regret selection specification_curve".split()
SHOWN += ["stability", "twins", "variance"]
PROFILED |= {f"draw_figure {name}" for name in SHOWN}
TORCH = {
    "profile_layers sensitivity_all",
    "describe_model",
    "check_tokens",
    "select_layers sensitive",
}
TORCH |= {"select_layers middle"}

CHANGES = {
    "nothing": (lambda study: None, set()),
    "add a seed": (
        config({"seeds": [0, 1]}),
        resolved(*ARMS, seed=1) | trained(*ARMS, seed=1) | RECORD,
    ),
    "add a benchmark": (
        config(select(benchmarks=["mini_arc", "mini_math"])),
        evaluated("base", *ARMS, benchmark="mini_math") | COMPARED | RECORD | {"check_contamination"},
    ),
    "limit of one benchmark": (
        config({"benchmarks": {"mini_arc": {"limit": 5}}}),
        evaluated("base", *ARMS) | COMPARED | RECORD,
    ),
    "lr_garfa": (
        config({"training": {"lr_garfa": 0.02}}),
        resolved("colocated", "garfa_sensitive") | trained("colocated", "garfa_sensitive") | RECORD,
    ),
    "LoRA rank": (
        config({"training": {"lora": {"rank": 8}}}),
        resolved("colocated", "mid_block") | trained("colocated", "mid_block") | RECORD,
    ),
    "LoRA targets": (
        config({"training": {"lora": {"targets": ["q_proj", "v_proj"]}}}),
        resolved("colocated", "mid_block") | trained("colocated", "mid_block") | RECORD,
    ),
    "swap two values": (
        config({"training": {"lr_lora": 1e-2, "lr_garfa": 5e-4}}),
        resolved(*ARMS) | trained(*ARMS) | RECORD,
    ),
    "rates to try, while none is tried": (config({"training": {"tuning": {"max_tokens": 4000}}}), RECORD),
    "reorder keys": (reorder, set()),
    "a price": (config({"prices": {"gpu_hour": 3.0}}), RECORD),
    "a figure's style": (append("src/colocate/figures/style.py", "\nEXTRA = 1\n"), ALL_FIGURES),
    "one figure": (append("src/colocate/figures/alphas.py", "\nEXTRA = 1\n"), {"draw_figure alphas"} | BILL),
    "evaluation module": (
        append("src/colocate/evaluation/scoring.py", "\nEXTRA = 1\n"),
        evaluated("base", *ARMS) | COMPARED,
    ),
    "GARFA module": (
        append("src/colocate/rope.py", "\nEXTRA = 1\n"),
        trained(*ARMS) | evaluated("base") | PROFILED,
    ),
    "a comment": (append("src/colocate/training.py", "\n# Another comment.\n"), set()),
    "a docstring": (edit("src/colocate/training.py", '"""Training runs', '"""All training runs'), set()),
    "a module that no rule imports": (append("src/colocate/suggest.py", "\nEXTRA = 1\n"), set()),
    "touch": (touch, set()),
    "torch": (
        install("torch"),
        TORCH | PROFILED | resolved(*ARMS) | trained(*ARMS) | evaluated("base") | {"draw_figure layer_sets"},
    ),
    "matplotlib": (install("matplotlib"), ALL_FIGURES),
    "delete an adapter": (delete_adapter, trained("mid_block")),
    "an arm that equals another": (
        config(
            select(arms=["base", *ARMS, "again"]) | {"arms": {"again": {"lora": "sensitive", "garfa": "sensitive"}}}
        ),
        COMPARED | RECORD,  # claims find it under either name
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_runs_again(finished, tmp_path, name):
    change, expected = CHANGES[name]
    study = finished.clone(tmp_path / "clone", links=True)
    change(study)
    assert study.would_run() == expected


def test_a_moved_clone_runs_nothing(finished, tmp_path):
    """A fresh clone has new dates; results, resources and Snakemake's memory are copied into it."""
    study = finished.clone(tmp_path / "elsewhere")
    touch(study)
    assert study.would_run() == set()


def test_an_added_model_runs_its_own_jobs_alone(finished, tmp_path):
    study = finished.clone(tmp_path / "clone", links=True)
    entry = yaml.safe_load((study.folder / "config/small.yaml").read_text())["models"]["tiny"]
    study.overlay("change", select(models=["tiny", "second"]) | {"models": {"second": entry}})
    shared = RECORD
    own = {"fetch_model", "prepare_model", "describe_model", "check_tokens"} | PROFILED
    own |= {"profile_layers sensitivity_all", "select_layers sensitive", "select_layers middle"}
    own |= resolved(*ARMS) | trained(*ARMS) | evaluated("base")
    assert study.would_run() == {of_second(job) for job in own - shared} | shared


def of_second(job: str) -> str:
    """The same job of the model `second`: its name stands after the rule."""
    rule, *rest = job.split()
    return " ".join([rule, "second", *rest])


def test_edited_pairs_leave_adapters_as_they_are_where_the_layers_stay(finished, tmp_path):
    """Two steps: profiles and layer sets first. Then what stayed the same is known, and no arm is trained again."""
    study = finished.clone(tmp_path / "clone")
    file = study.folder / "data/pairs/tasks.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["prompt"] = "Please note. " + rows[0]["prompt"]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    in_one = study.would_run()
    profiled = {"profile_layers sensitivity_all", "profile_layers rope_output"}
    assert in_one == PAIRS | PROFILED | profiled | resolved(*ARMS) | trained(*ARMS)
    assert study.would_run("profiles") == (PAIRS - {"check_contamination"}) | profiled
    results = study.folder / "results/small/tiny"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.suffix in (".csv", ".json")}
    study.snakemake("profiles")
    assert (results / "profiles/sensitivity_all.csv").read_bytes() != before[results / "profiles/sensitivity_all.csv"]
    chosen = results / "layer_sets/sensitive.json"
    assert chosen.read_bytes() == before[chosen]
    left = study.would_run()
    measured = {f"profile_arm {arm} seed 0 weight_change" for arm in ARMS} | {"draw_figure changes"}
    judged = {"judge_claims", "recommend_layers"} | BILL
    assert left == {"check_contamination"} | (PROFILED - profiled) | measured | judged


def test_a_lost_adapter_is_trained_again_and_nothing_is_evaluated_again(finished, tmp_path):
    """Two steps: its bytes come out as they were, so what was measured of it stays."""
    study = finished.clone(tmp_path / "clone")
    adapter = study.folder / "results/small/tiny/adapters/mid_block/seed0/adapter_model.safetensors"
    before = adapter.read_bytes()
    delete_adapter(study)
    assert study.would_run("train") == {"train_arm mid_block seed 0"}
    study.snakemake("train")
    assert adapter.read_bytes() == before
    assert study.would_run() == BILL  # the training's own cost


def test_every_row_is_in_the_documents():
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs/reruns.md").read_text(), re.M)
    others = {"a fresh clone", "edit a pair file", "add a model"}
    assert set(rows) - {"change", "---"} == set(CHANGES) | others


HEAVY = {"torch", "numpy", "pandas", "scipy", "matplotlib", "transformers", "lm_eval", "pyarrow", "peft", "nltk"}
MODULES = """import atexit, sys
atexit.register(lambda: print("loaded:", *sys.modules))
from snakemake.cli import main
main(sys.argv[1:])
"""


def loaded(folder, *options: str) -> set[str]:
    """What is in the process of a dry run at its end."""
    command = [sys.executable, "-c", MODULES, "--dry-run", "--quiet", "all", "--cores", "1", *options]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_nothing_heavy_is_imported_by_the_snakefile(tmp_path):
    """What a dry run brings into the process of Snakemake, which is started again in every cluster job."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Snakefile").write_text("rule all:\n    input: []\n")
    ours = loaded(Checkout(tmp_path / "study").folder) - loaded(tmp_path / "empty")
    assert {"colocate.config", "colocate.needs", "colocate.digests"} <= ours
    assert not ours & HEAVY
