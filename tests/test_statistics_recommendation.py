"""The recommendation and the sentences: what they say when the data are clear, and when they are not."""

import json

import numpy as np
import pandas as pd
import pytest

from colocate.errors import InputError
from colocate.statistics import correlations, findings, recommendation

L = 30
LAYERS = {
    "colocated": (range(21, 30), range(21, 30)),
    "early_both": (range(9), range(9)),
    "standard_lora": (range(L), ()),
    "random": ((2, 5), (2, 5)),
}
RESOLVED = [
    {"arm": arm, "seed": 0, "lora_layers": list(lora), "garfa_layers": list(garfa), "n_trainable": 1000}
    for arm, (lora, garfa) in LAYERS.items()
] + [{"arm": "base", "seed": 0, "lora_layers": [], "garfa_layers": [], "n_trainable": 0}]


def heldout(losses: dict, seeds=(0, 1), noise=0.02, validate_shift=None) -> pd.DataFrame:
    """60 texts of unlike difficulty in each split; `validate_shift` moves an arm's loss on validate alone."""
    rng, rows = np.random.default_rng(1), []
    for split in ("validate", "test"):
        text = 0.3 * rng.normal(size=60)
        for arm, loss in {"base": 2.0, **losses}.items():
            for seed in (0,) if arm == "base" else seeds:
                shift = (validate_shift or {}).get(arm, 0) if split == "validate" else 0
                values = loss + shift + text + noise * rng.normal() * (arm != "base") + noise * rng.normal(size=60)
                frame = pd.DataFrame({"item": [f"{split}{i}" for i in range(60)], "group": "g", "loss": values})
                rows.append(frame.assign(arm=arm, seed=seed, split=split))
    return pd.concat(rows, ignore_index=True)


def recommend(losses, **settings):
    found = recommendation.recommend(heldout(losses, **settings), RESOLVED, n_layers=L, random_arms=["random"])
    json.dumps(found, allow_nan=False)
    return found


def test_the_best_arm_is_recommended_where_it_is_plain():
    found = recommend({"colocated": 1.0, "early_both": 1.5, "standard_lora": 1.6, "random": 1.4})
    assert found["arm"] == "colocated"
    assert found["lora_layers"] == list(range(21, 30))
    assert found["not_distinguishable"] == []
    assert found["text"].startswith("Adapt layers 21-29 with LoRA and GARFA (arm colocated). It has the least validate")
    assert found["test"]["base"]["difference"] == pytest.approx(-1.0, abs=0.1)
    assert found["test"]["base"]["ci_high"] < 0
    assert found["test"]["random"]["against"] == "random"
    assert (found["n_items"], found["n_seeds"]) == ({"validate": 60, "test": 60}, 2)


def test_all_layers_are_recommended_where_they_are_best():
    found = recommend({"colocated": 1.5, "early_both": 1.5, "standard_lora": 1.0, "random": 1.4})
    assert found["all_layers"] is True
    assert found["text"].startswith("Adapt all 30 layers with LoRA (arm standard_lora).")


def test_arms_that_cannot_be_told_apart_give_the_cheapest_and_say_so():
    found = recommend({"colocated": 1.01, "early_both": 1.0, "standard_lora": 1.0, "random": 1.0}, noise=0.05)
    assert found["arm"] == "colocated"
    assert found["not_distinguishable"] == ["early_both", "standard_lora"]
    assert "The 3 arms cannot be told apart on validate; this one is the cheapest." in found["text"]
    assert "not better beyond chance" in found["text"]
    assert found["compute_share"] == pytest.approx((60 - 21) / 60)


def test_it_is_chosen_on_validate_and_quoted_on_test():
    losses = {"colocated": 1.5, "early_both": 1.2, "standard_lora": 1.5}
    found = recommend(losses, validate_shift={"colocated": -0.5})
    assert found["arm"] == "colocated"
    assert found["test_loss"] == pytest.approx(1.5, abs=0.15)
    assert found["candidates"][0]["validate_loss"] == pytest.approx(1.0, abs=0.15)


def test_what_is_worse_on_test_is_called_worse():
    losses = {"colocated": 1.5, "standard_lora": 1.2}
    found = recommend(losses, validate_shift={"colocated": -0.5}, seeds=(0, 1, 2, 3))
    assert found["arm"] == "colocated"
    (said,) = [part for part in found["text"].split("On test against ") if part.startswith("LoRA on all layers")]
    assert "(worse, beyond chance)" in said
    assert "not better" not in said


def test_random_layers_are_no_candidate():
    found = recommend({"colocated": 1.5, "standard_lora": 1.6, "random": 1.0})
    assert found["arm"] == "colocated"
    assert found["test"]["random"]["ci_low"] > 0
    assert "against random layers" in found["text"]


def test_nothing_is_recommended_where_training_does_not_help():
    found = recommend({"colocated": 2.3, "early_both": 2.2, "standard_lora": 2.4})
    assert found["arm"] is None
    assert found["text"].startswith("Adapt nothing: on validate, not even early_both")


def test_one_seed_speaks_of_checkpoints():
    found = recommend({"colocated": 1.0, "standard_lora": 1.4}, seeds=(0,))
    assert "1 seed, so this speaks of these checkpoints only" in found["text"]


def test_a_missing_split_is_refused():
    table = heldout({"colocated": 1.0})
    with pytest.raises(InputError, match="no loss of split 'validate'"):
        recommendation.recommend(table[table["split"] == "test"], RESOLVED, n_layers=L)


# Without trained arms, and beside them


def gains(values, seeds: int = 3) -> dict[str, pd.DataFrame]:
    half = 0.01
    columns = {"layer": range(L), "value": np.asarray(values, float), "n": seeds}
    return {
        "layer_gain": pd.DataFrame(columns).assign(
            ci_low=lambda t: t["value"] - half, ci_high=lambda t: t["value"] + half
        )
    }


def untrained(**found) -> dict:
    advice = recommendation.recommend(heldout({}).head(0), [], n_layers=L, **found)
    json.dumps(advice, allow_nan=False)
    return advice


LATE = np.where(np.arange(L) >= 22, 0.2, 0.0) + 0.001 * np.arange(L)
PROXY = ("sensitivity_all", pd.DataFrame({"layer": range(L), "value": np.arange(L, 0.0, -1)}))


def test_layer_gain_comes_before_proxies():
    found = untrained(gains=gains(LATE), proxy=PROXY)
    assert found["basis"] == "layer_gain"
    assert found["lora_layers"] == list(range(22, 30))
    assert found["chosen_on"] == "validate"
    assert found["quoted_on"] is None
    assert found["compute_share"] == pytest.approx((60 - 22) / 60)
    assert found["text"].startswith(
        "Adapt layers 22-29 with LoRA. The 8 layers of the largest gain (layer_gain: held-out"
    )
    assert "Not quoted on test" in found["text"]


def test_all_layers_where_no_layer_stands_out():
    found = untrained(gains=gains(0.1 + 0.0001 * np.arange(L)))
    assert found["all_layers"] is True
    assert found["text"].startswith("Adapt all 30 layers with LoRA. No layer can be told from the 8 best")


def test_a_proxy_is_used_last_and_labelled():
    found = untrained(proxy=PROXY)
    assert found["basis"] == "proxy"
    assert found["lora_layers"] == list(range(8))
    assert "A proxy: the 8 layers highest in sensitivity_all. Nothing was trained" in found["text"]
    assert found["chosen_on"] is None
    assert untrained()["text"].startswith("No arm was trained, no layer gain and no profile measured")


def test_arms_come_before_gain_and_are_held_against_it():
    table = pd.DataFrame({"metric": ["a", "b"], "direction": "top", "against": "layer_gain", "regret": [0.9, 0.4]})
    table = table.assign(ci_low=[0.5, 0.1], ci_high=[1.2, np.nan])
    found = recommendation.recommend(
        heldout({"colocated": 1.0, "standard_lora": 1.4}), RESOLVED, n_layers=L, gains=gains(LATE[::-1]), regrets=table
    )
    json.dumps(found, allow_nan=False)
    assert (found["basis"], found["arm"]) == ("arms", "colocated")
    assert found["layer_gain"]["layer_gain"] > 1  # the last layers, where the first gain most
    assert [row["metric"] for row in found["proxies"]] == ["b", "a"]
    assert found["proxies"][0]["ci_high"] is None
    assert recommend({"standard_lora": 1.0})["layer_gain"] is None


def test_layers_in_words():
    words = [recommendation.layers_in_words(layers, 30) for layers in ([], [4], [0, 1, 2, 7, 21, 22], range(30))]
    assert words == ["no layer", "layer 4", "layers 0-2, 7 and 21-22", "all 30 layers"]


# Sentences

ROW = dict.fromkeys(correlations.COLUMNS, float("nan")) | {
    "sensitivity": "sensitivity_all",
    "rope": "rope_output",
    "primary": True,
    "n_layers": 30,
    "r_s": -0.61,
    "p_raw": 0.02,
    "p_depth": 0.4,
    "partial_r_s": -0.1,
    "r_dis": -0.65,
    "ci_low": -0.72,
    "ci_high": -0.58,
    "n_items_x": 72,
    "n_items_y": 12,
    "overlap_k": 8,
    "overlap": 1,
}


def test_answer_names_number_interval_and_items():
    said = findings.answer(ROW)
    assert said.startswith("Inconclusive: the two profiles go opposite ways, but beyond their trends in depth")
    for fact in (
        "over 30 layers",
        "r_s = -0.61",
        "-0.72 to -0.58",
        "72 and 12 items",
        "p = 0.4",
        "top 8 layers share 1",
        "One model",
    ):
        assert fact in said


def test_answer_follows_the_primary_test():
    assert "less RoPE influence" in findings.answer(ROW | {"p_depth": 0.01})
    assert "also have more RoPE influence" in findings.answer(ROW | {"p_depth": 0.01, "partial_r_s": 0.5})
    assert findings.answer(ROW | {"p_raw": 0.3}).startswith("Inconclusive: two unrelated profiles as smooth")
    assert "no interval" in findings.answer(ROW | {"r_dis": float("nan")})


def contrast_rows(p_adjusted) -> pd.DataFrame:
    row = {"arm_a": "colocated", "family": "primary", "difference": 0.03, "ci_low": -0.02, "ci_high": 0.08, "se": 0.025}
    row |= {"n_items": 272, "n_seeds": 2, "note": "composite of 6 mini benchmarks; more"}
    return pd.DataFrame([row | {"arm_b": arm, "p_adjusted": p} for arm, p in p_adjusted.items()])


def test_arms_in_words():
    said = findings.arms(contrast_rows({"random": 0.8, "standard_lora": 0.3}))
    assert said.startswith("Inconclusive: colocated is neither better nor worse than any of 2 other arms")
    for fact in (
        "smallest p after Holm 0.3",
        "of at least 7.0 points would be seen",
        "6 mini benchmarks",
        "272 items, 2 seeds",
        "random +3.0 [-2.0, +8.0]",
    ):
        assert fact in said
    rows = contrast_rows({"random": 0.8, "standard_lora": 0.3}).assign(se=[0.013, 0.0193])
    assert "of at least 3.6 to 5.4 points, depending on the arm, would be seen" in findings.arms(rows)
    said = findings.arms(contrast_rows({"random": 0.01, "standard_lora": 0.3}))
    assert said.startswith("colocated is better than random, of 2 other arms, after Holm's correction")


def test_three_findings_even_of_an_empty_study():
    rows = [["anti-localization", "direct", "not_tested"], ["anti-localization", "conceptual", "holds_here"]]
    claims = pd.DataFrame(rows, columns=["claim", "scope", "verdict"])
    said = findings.findings(pd.DataFrame([ROW]), contrast_rows({"random": 0.5}), claims, {"text": "Adapt all layers."})
    assert len(said) == 3
    assert "anti-localization: holds here" in said[0]
    assert said[2] == "Adapt all layers."
    empty = findings.findings(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), {})
    assert len(empty) == 3
    assert all(" not " in line or line.startswith("Nothing") for line in empty)
