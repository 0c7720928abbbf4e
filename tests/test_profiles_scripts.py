"""The scripts that compare models and make pairs, run as a rule runs them, on tiny models."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from arms import PAIRS, lora_model
from colocate import files
from colocate.pairs import check
from colocate.profiles import METRICS
from conftest import ROOT
from tiny import make_tokenizer

WHERE = {"device": "cpu", "threads": 1}


def run(script: str, settings: dict, **named) -> subprocess.CompletedProcess:
    many = {name: value if isinstance(value, list) else [value] for name, value in named.items()}
    options = [str(part) for name, values in many.items() for part in (f"--{name}", *values)]
    command = [sys.executable, f"workflow/scripts/{script}.py", *options, "--settings", json.dumps(settings | WHERE)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def places(tiny_llama, tmp_path) -> dict:
    """The base model's manifest, its geometry as far as a script reads it, and pairs with a control."""
    geometry, pairs, same = (tmp_path / name for name in ("geometry.json", "pairs.jsonl", "same.jsonl"))
    files.write_json(geometry, {"dtype": "float32", "device": "cpu"})
    keys = ("id", "domain", "language", "prompt", "correct", "incorrect", "incorrect2")
    rows = [{key: getattr(pair, key) for key in keys} | {"tags": []} for pair in PAIRS]
    files.write_text(pairs, "".join(json.dumps(row) + "\n" for row in rows))
    control = {"id": "even", "domain": "words", "language": "en", "prompt": "An even number is", "tags": []}
    files.write_text(same, json.dumps(control | {"correct": " 4", "paraphrase": " 6"}) + "\n")
    return {"model": tiny_llama / "manifest.json", "geometry": geometry, "pairs": pairs, "paraphrases": same}


def test_a_released_fine_tune_is_measured_against_its_base(tiny_llama, tmp_path, places):
    tuned = tmp_path / "tuned"
    lora_model(tiny_llama, [1, 3], 0.2).merge_and_unload().save_pretrained(tuned)
    make_tokenizer().save_pretrained(tuned)
    out = {"profile": tmp_path / "p.csv", "variants": tmp_path / "v.parquet", "run": tmp_path / "run.json"}
    settings = {"profile": {"metric": "weight_change", "seed": 0}, "limit": 100}
    done = run("profile_released", settings, **places, tuned=tuned / "manifest.json", **out)
    assert done.returncode == 0, done.stderr
    profile = pd.read_csv(out["profile"])
    assert list(profile) == ["layer", "value", "ci_low", "ci_high", "n"]
    assert (profile["value"] > 1e-3).tolist() == [False, True, False, True]
    variants = pd.read_parquet(out["variants"])
    assert {"relative/all", "absolute/attention"} <= set(variants["variant"])
    assert np.isfinite(variants["value"]).all()


def test_pairs_are_made_for_a_model(tmp_path, places):
    made = {"kind": "benchmark", "benchmark": "mini_arc", "n": 20}
    settings = {"made": [made], "benchmarks": {"mini_arc": {"task": "mini_arc"}}, "seed": 0, "chat_template": "auto"}
    inputs = {name: places[name] for name in ("model", "geometry")}
    out = {"made": tmp_path / "made.jsonl", "run": tmp_path / "run.json"}
    done = run("make_pairs", settings, **inputs, **out)
    assert done.returncode == 0, done.stderr
    assert check(out["made"]) == []
    (record,) = files.read_json(out["run"])["made"]
    about = {"kind": "benchmark", "benchmark": "mini_arc", "split": "validation"}
    assert record == about | {"questions": 32, "pairs": 20, "left_out": {}}
    refused = run("make_pairs", settings | {"made": [made | {"split": "test"}]}, **inputs, **out)
    assert refused.returncode == 1
    assert "split: found test, on which mini_arc is scored; allowed: validation" in refused.stderr


def test_the_metrics_of_two_models_are_those_of_the_study():
    """All that Zhao et al. 2026 measure between a base model and a tuned one."""
    named = {
        *("linear_cka", "cosine", "mean_shift", "weight_change", "segment_swap", "early_exit_change"),
        *("effective_rank_change", "prompt_entropy_change", "dataset_entropy_change"),
        *("curvature_change", "spectral_norm_change"),
    }
    assert {name for name, metric in METRICS.items() if metric.needs == "arm"} == named
