"""Forgetting: every arm against base on every benchmark, and its KL to base on neutral text."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colocate import adapters, files, models
from colocate.budget import AdapterSpec
from colocate.pairs import read_texts
from colocate.statistics.contrasts import contrast
from colocate.statistics.forgetting import COLUMNS, forgetting
from conftest import ROOT
from test_profiles_scripts import run
from test_statistics_contrasts import items_of

DRIFTS = pd.DataFrame(
    [
        (arm, seed, text, 256, kl * (1 + seed))
        for arm, kls in {"a": (0.1, 0.2, 0.6), "b": (0.01, 0.02, 0.9)}.items()
        for seed in (0, 1)
        for text, kl in zip("xyz", kls, strict=True)
    ],
    columns=["arm", "seed", "text", "tokens", "kl"],
)


@pytest.fixture(scope="module")
def contrasts() -> pd.DataFrame:
    answers = items_of(["base", "a", "b"], [0, 1], {"mini_arc": 30, "mini_math": 24}, np.random.default_rng(0))
    heldout = pd.DataFrame(
        [(arm, seed, "test", f"t{i}", "g", 1.0 + i) for arm in ("base", "a") for seed in (0, 1) for i in range(5)],
        columns=["arm", "seed", "split", "item", "group", "loss"],
    )
    return contrast(
        answers, heldout[(heldout["arm"] != "base") | (heldout["seed"] == 0)], {"reference": "a", "against": ["b"]}
    )


def test_every_arm_is_compared_with_base_on_every_benchmark(contrasts):
    table = forgetting(contrasts, DRIFTS)
    assert list(table) == COLUMNS
    rows = table[table["benchmark"] != "neutral_kl"]
    assert {(row.arm, row.benchmark) for row in rows.itertuples()} == {
        (arm, benchmark) for arm in "ab" for benchmark in ("mini_arc", "mini_math")
    }
    for row in rows.itertuples():
        same = contrasts[(contrasts["arm_a"] == row.arm) & (contrasts["arm_b"] == "base")]
        (same,) = same[(same["benchmark"] == row.benchmark) & (same["outcome"] == row.outcome)].itertuples()
        assert (row.difference, row.ci_low, row.ci_high, row.p) == (same.difference, same.ci_low, same.ci_high, same.p)
        assert (row.n_items, row.n_seeds) == (same.n_items, same.n_seeds)
    assert {"heldout", "composite"} <= set(contrasts["benchmark"])  # stay in contrasts.csv


def test_kl_on_neutral_text_has_an_interval_over_texts(contrasts):
    table = forgetting(contrasts, DRIFTS)
    rows = table[table["benchmark"] == "neutral_kl"].set_index("arm")
    kl = 1.5 * np.array([0.1, 0.2, 0.6])  # the mean over two seeds, the second of which doubles
    half = stats.t.ppf(0.975, 2) * kl.std(ddof=1) / np.sqrt(3)
    assert rows.loc["a", "outcome"] == "kl"
    assert rows.loc["a", "difference"] == pytest.approx(kl.mean())
    assert rows.loc["a", "ci_high"] == pytest.approx(kl.mean() + half)
    assert rows.loc["b", "ci_low"] == 0.0  # a KL is never negative
    assert rows["p"].isna().all()
    assert rows[["n_items", "n_seeds"]].to_numpy().tolist() == [[3, 2], [3, 2]]


def test_without_trained_arms_or_seeds_to_compare_there_are_no_rows(contrasts):
    assert forgetting(contrasts.iloc[:0], pd.DataFrame(columns=["arm", "seed"])).empty
    one = forgetting(contrasts.iloc[:0], DRIFTS[DRIFTS["text"] == "x"])
    assert one["difference"].notna().all()
    assert one["ci_low"].isna().all()


def test_the_scripts_measure_drift_of_an_adapter_and_join_it(tiny_llama, tmp_path, contrasts):
    """As the rules run them: the neutral texts of the project, an adapter that changed nothing and one that did."""
    where, found = {"geometry": tmp_path / "geometry.json"}, {}
    files.write_json(where["geometry"], {"dtype": "float32", "device": "cpu"})
    for arm, change in (("same", 0.0), ("moved", 0.3)):
        folder = tmp_path / "adapters" / arm / "seed0"
        spec = AdapterSpec(lora_layers=(1, 2), garfa_layers=(), rank=4, alpha=8, targets=("q_proj", "v_proj"))
        adapted = adapters.adapt(models.load_model(tiny_llama, "float32", "cpu"), spec)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data.fill_(change)
        adapters.save(adapted, folder)
        digests = {path.name: files.sha256(path) for path in folder.iterdir()}
        files.write_json(folder / "manifest.json", {"sha256": digests})
        out = {name: tmp_path / f"evaluations/{arm}/seed0/neutral_kl{end}" for name, end in
               (("neutral_kl", ".csv"), ("run", ".run.json"))}  # fmt: skip
        inputs = {"model": tiny_llama / "manifest.json", "adapter": folder / "adapter_model.safetensors"}
        done = run("measure_drift", {}, **where, **inputs, texts=ROOT / "data/pairs/texts.jsonl", **out)
        assert done.returncode == 0, done.stderr
        found[arm] = pd.read_csv(out["neutral_kl"])
        record = json.loads(out["run"].read_text())
        assert (record["dtype"], record["tokens"]) == ("float32", found[arm]["tokens"].sum())
    texts = [text.id for text in read_texts(ROOT / "data/pairs/texts.jsonl")]
    for table in found.values():
        assert list(table) == ["text", "tokens", "kl"]
        assert list(table["text"]) == texts
        assert table["tokens"].between(2, 256).all()
    assert found["same"]["kl"].max() < 1e-9
    assert found["moved"]["kl"].min() > 1e-6
    files.write_csv(tmp_path / "contrasts.csv", contrasts)
    drifts = sorted(tmp_path.glob("evaluations/*/seed0/neutral_kl.csv"))
    command = {"contrasts": tmp_path / "contrasts.csv", "forgetting": tmp_path / "forgetting.csv"}
    done = run("compare_base", {}, **command, drifts=drifts)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "forgetting.csv")
    assert list(table) == COLUMNS
    neutral = table[table["benchmark"] == "neutral_kl"].set_index("arm")["difference"]
    assert neutral["moved"] == pytest.approx(found["moved"]["kl"].mean())
