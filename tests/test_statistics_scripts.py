"""The statistics scripts by hand on a made-up study: every named input and output, and tables that fit each other."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from colocate.files import read_json, write_csv, write_json, write_parquet
from conftest import ROOT
from test_claims_study import SMALL
from test_statistics_contrasts import items_of

L, SEEDS, ARMS = (
    12,
    (0, 1),
    ("base", "colocated", "standard_lora", "random", "random_draws-draw0", "random_draws-draw1"),
)
PROFILES = {
    "sensitivity_all": {"metric": "sensitivity", "pool": "all"},
    "rope_output": {"metric": "rope_influence", "method": "output", "log_alpha": 0.693, "text_tokens": 128},
    "curvature": {"metric": "curvature"},
}
PRIMARY = {"primary_sensitivity": "sensitivity_all", "primary_rope": "rope_output", "surrogates": 199, "seed": 0}


def write_profile(folder: Path, name: str, rng) -> None:
    values = np.exp(np.sin(np.arange(L)) + 0.3 * rng.normal(size=(8, L)))
    ids = [json.loads(line)["id"] for line in (ROOT / "data/pairs/tasks.jsonl").read_text().splitlines()[:80:10]]
    frame = pd.DataFrame({"item": np.repeat(ids, L), "layer": np.tile(range(L), 8), "value": values.ravel()})
    write_csv(folder / f"{name}.csv", pd.DataFrame({"layer": range(L), "value": values.mean(axis=0)}))
    write_parquet(folder / f"{name}.items.parquet", frame)
    variant = {"sensitivity_all": "core/all/state", "rope_output": "output_plus"}.get(name, "other")
    variants = frame.assign(variant=variant, kv_head=-1, value=frame["value"] * rng.uniform(0.5, 1, size=len(frame)))
    write_parquet(folder / f"{name}.variants.parquet", variants)


def write_arm(folder: Path, arm: str, seed: int, answers: pd.DataFrame, rng) -> None:
    run = Path(arm, f"seed{seed}")
    for benchmark, rows in answers.groupby("benchmark"):
        path = folder / "evaluations" / run / f"{benchmark}.items.parquet"
        write_parquet(path, rows.drop(columns=["arm", "seed", "benchmark"]).assign(doc_hash=rows["item"]))
        summary = {"accuracy": float(rows["correct"].mean()), "n": len(rows)}
        place = {"settings": {"dtype": "float32", "device": "cpu"}}
        write_json(path.with_name(f"{benchmark}.json"), summary | place)
    if arm == "base":
        return
    held = [
        pd.DataFrame({"item": [f"t{i}" for i in range(20)], "group": "g", "step": step, "split": split}).assign(
            loss=2.0 - 0.5 * (step > 0) + 0.05 * rng.normal(size=20)
        )
        for step in (0, 9)
        for split in ("validate", "test")
    ]
    write_parquet(folder / "adapters" / run / "heldout.parquet", pd.concat(held, ignore_index=True))
    alphas = pd.DataFrame({"layer": range(6, L), "kv_head": 0, "alpha": 1.1})
    write_csv(folder / "adapters" / run / "alphas.csv", alphas)
    layers = list(range(L)) if arm == "standard_lora" else list(range(6, L))
    arm_json = {"arm": arm, "seed": seed, "lora_layers": layers, "garfa_layers": layers, "n_trainable": 100}
    write_json(folder / "arms" / arm / f"seed{seed}.json", arm_json)
    for metric in ("linear_cka", "segment_swap"):
        path = folder / "arm_profiles" / run / f"{metric}.csv"
        write_csv(path, pd.DataFrame({"layer": range(L), "value": 1 - 0.1 * rng.random(L)}))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    for name in PROFILES:
        write_profile(folder / "profiles", name, rng)
    for twin in ("random0", "random1", "shuffled0"):
        for name in ("sensitivity_all", "rope_output"):
            table = pd.DataFrame({"layer": range(L), "value": rng.random(L)})
            write_csv(folder / "twins" / twin / f"{name}.csv", table)
    gain = pd.DataFrame({"layer": range(L), "value": rng.random(L), "n": 2})
    write_csv(folder / "profiles/layer_gain.csv", gain.assign(ci_low=gain["value"] - 0.1, ci_high=gain["value"] + 0.1))
    for name, layers in (("sensitive", [1, 2, 7]), ("positional", [3, 4, 5])):
        write_json(folder / f"layer_sets/{name}.json", {"name": name, "layers": layers})
    evaluated = [arm for arm in ARMS if "draw" not in arm]
    answers = items_of(evaluated, list(SEEDS), {"mini_arc": 30, "mini_math": 24}, rng)
    for arm in ARMS:
        for seed in (0,) if arm == "base" else SEEDS:
            write_arm(folder, arm, seed, answers[(answers["arm"] == arm) & (answers["seed"] == seed)], rng)
    write_json(folder / "geometry.json", {"n_layers": L, "n_params": 10**8, "attention": "GQA"})
    write_csv(folder / "compute.csv", pd.DataFrame({"rule": ["train_arm"], "cost": [0.1], "currency": ["USD"]}))
    return folder


def run(script: str, folder: Path, inputs: dict, outputs: dict, settings: dict) -> None:
    """Inputs are glob patterns below the folder (or files of the checkout), outputs names in statistics/."""
    command = [sys.executable, str(ROOT / f"workflow/scripts/{script}.py"), "--settings", json.dumps(settings)]
    for name, pattern in inputs.items():
        found = [str(ROOT / pattern)] if pattern.startswith("data/") else sorted(map(str, folder.glob(pattern)))
        assert found, pattern
        command += [f"--{name}", *found]
    for name, file in outputs.items():
        command += [f"--{name}", str(folder / "statistics" / file)]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_scripts_of_a_study(study):
    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(study / "statistics" / name)

    items = {"per_item": "profiles/*.items.parquet"}
    plain = {"profiles": "profiles/[!l]*.csv"}  # all but layer_gain
    heldout = {"heldout": "adapters/*/*/heldout.parquet"}
    summaries = {"summaries": "evaluations/*/*/*.json"}
    random_arms = ["random", "random_draws-draw0", "random_draws-draw1"]
    scope = {"scope": SMALL | {"benchmarks": ["mini_arc", "mini_math"]}}

    run(
        "correlate_profiles",
        study,
        plain | items | {"variants": "profiles/*.variants.parquet", "twins": "twins/*/*.csv"}
        | {"frozen": "data/published/specification.yaml"},
        {name: f"{name}.csv" for name in ("correlations", "specifications")}
        | {"specification_curve": "specification_curve.json", "twin_table": "twins.csv", "run": "run.json"},
        PRIMARY | {"profiles": PROFILES},
    )  # fmt: skip
    assert len(table("correlations.csv")) == 1
    assert len(table("specifications.csv")) == 4
    assert read_json(study / "statistics/specification_curve.json")["primary_is_frozen"] is True
    assert table("twins.csv")["twin"].tolist() == ["random0", "random1", "shuffled0"]

    outputs = {name: f"{name}.csv" for name in ("selection", "stability", "domains")}
    settings = {"sensitivity": ["sensitivity_all"], "distances": ["sensitivity_all", "rope_output"], "seed": 0}
    run("resample_items", study, items | {"pairs": "data/pairs/tasks.jsonl"}, outputs, settings)
    assert set(table("selection.csv")["profile"]) == set(PROFILES)
    assert set(table("domains.csv")["profile"]) == {"sensitivity_all"}

    run("score_metrics", study, plain | {"gains": "profiles/layer_gain*.csv"}, {"regret": "regret.csv"}, {"seed": 0})
    assert set(table("regret.csv")["metric"]) == set(PROFILES)

    run(
        "contrast_arms",
        study,
        summaries | heldout | {"per_item": "evaluations/*/*/*.items.parquet"},
        {"contrasts": "contrasts.csv", "power": "power.csv"},
        {"reference": "colocated", "primary_against": ["standard_lora"], "random_arms": random_arms, "aliases": {}},
    )
    assert table("contrasts.csv")["n_draws"].dropna().tolist() == [4]

    statistics = {name: f"statistics/{name}.csv" for name in ("correlations", "contrasts", "domains", "twins")}
    run(
        "judge_claims",
        study,
        {"claims": "data/published/claims.csv"} | statistics | plain | items | summaries | heldout
        | {"layer_sets": "layer_sets/*.json", "alphas": "adapters/*/*/alphas.csv"}
        | {"arm_profiles": "arm_profiles/*/*/*.csv", "arms": "arms/*/*.json"},
        {"verdicts": "claims.csv"},
        scope | {"reference": "colocated", "seed": 0, "sets": {"sensitive": "sensitive", "positional": "positional"}}
        | {"aliases": {}, "metrics": {name: entry["metric"] for name, entry in PROFILES.items()}},
    )  # fmt: skip
    verdicts = table("claims.csv").set_index(["claim", "scope"])
    assert len(verdicts) == 52
    assert "2 random twins" in verdicts.loc[("anti-localization beyond architecture", "conceptual"), "why"]

    tables = {name: f"statistics/{name}.csv" for name in ("correlations", "contrasts", "claims", "selection", "regret")}
    run(
        "recommend_layers",
        study,
        tables | heldout | {"geometry": "geometry.json", "profile": "profiles/sensitivity_all.csv"}
        | {"gains": "profiles/layer_gain*.csv", "arms": "arms/*/*.json"},
        {"recommendation": "recommendation.json", "findings": "findings.json"},
        {"random_arms": random_arms},
    )  # fmt: skip
    advice = read_json(study / "statistics/recommendation.json")
    assert advice["basis"] == "arms"
    assert set(advice["layer_gain"]) == {"layer_gain"}
    assert len(advice["proxies"]) == 6

    run(
        "compare_models",
        study,
        {"geometries": "geometry.json", "published": "data/published/claims.csv", "compute": "compute.csv"}
        | {"correlations": "statistics/correlations.csv", "contrasts": "statistics/contrasts.csv"}
        | {"verdicts": "statistics/claims.csv"},
        {"table": "across_models.csv", "claims": "across_claims.csv"},
        {"models": ["smollm2-135m"]} | scope,
    )  # fmt: skip
    assert table("across_models.csv")["family"].tolist() == ["smollm"]
    assert len(table("across_claims.csv")) == 8

    printed = {name: f"data/published/{name}.csv" for name in ("numbers", "claims")}
    run("reanalyse_print", study, printed, {"table": "reanalysis.csv", "needed": "needed.csv"}, {})
    assert len(table("reanalysis.csv")) > 20
    assert "co-located best" in set(table("needed.csv")["claim"])
