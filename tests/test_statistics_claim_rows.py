"""Every row of the claims file gets a verdict once its inputs exist: one made-up study that has them all."""

import numpy as np
import pandas as pd
import pytest

from colocate.statistics import across, claims, contrasts, evidence, over_models, twins
from colocate.statistics.claims import Part
from colocate.statistics.measurements_arms import localisation
from test_claims_study import CSV, FULL, made_study
from test_statistics_contrasts import items_of

L, SEEDS = 30, range(6)
BENCHMARKS = ("mini_arc", "gsm8k", "humaneval_plus", "ifeval")
ARMS = (
    *("lora_sensitive", "garfa_sensitive", "early", "late", "spaced", "garfa_everywhere", "garfa_shifted"),
    *contrasts.MASKS[1:],
    *("segment_1", "segment_5", "mid_block_as_published", "standard_lora_full_rank"),
)
JUDGED = ("reproduced", "contradicted", "inconclusive", "holds_here", "does_not_hold_here", "cannot_tell")


def resolved(arm: str, layers, n_trainable: int) -> dict:
    return {"arm": arm, "lora_layers": list(layers), "garfa_layers": [], "n_trainable": n_trainable}


def draws(loss: float, rng) -> pd.DataFrame:
    """Held-out loss of the reference and of 19 random draws, two seeds each."""
    rows = [("colocated", seed, loss + 0.01 * seed) for seed in (0, 1)]
    rows += [(f"random_draws-draw{i}", seed, 1.5 + 0.05 * rng.normal()) for i in range(19) for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "loss"]).merge(pd.DataFrame({"item": range(10)}), how="cross")
    return frame.assign(split="test", group="g")


def by_layer(values, arm: str = "standard_lora", seeds=SEEDS, rng=None) -> pd.DataFrame:
    noise = np.zeros((len(seeds), len(values))) if rng is None else 0.002 * rng.normal(size=(len(seeds), len(values)))
    parts = [
        pd.DataFrame({"arm": arm, "seed": s, "layer": range(len(values)), "value": values + n})
        for s, n in zip(seeds, noise, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def rising(late: bool, rng) -> pd.DataFrame:
    """Right or wrong at each layer for 60 items: nothing is known until late, or everything is from early on."""
    depth = np.arange(L) / (L - 1)
    share = np.clip((depth - 0.6) / 0.4, 0, 1) if late else np.clip(depth / 0.3, 0, 1)
    values = (rng.random((60, L)) < 0.1 + 0.8 * share).astype(float)
    names = np.repeat([f"i{i}" for i in range(60)], L)
    return pd.DataFrame({"item": names, "layer": np.tile(range(L), 60), "value": values.ravel()})


@pytest.fixture(scope="module")
def whole() -> dict:
    rng = np.random.default_rng(0)
    study = made_study(seeds=tuple(SEEDS), extra_arms=ARMS, model=FULL, gain=2.0, benchmarks=BENCHMARKS)
    sensitive = [10, *study["layer_sets"]["sensitive"]["layers"][1:]]  # no block of neighbours; begins at layer 10
    adapted = {"colocated": sensitive, "garfa_everywhere": range(L), "garfa_shifted": range(6, 14)}
    alphas = [
        (arm, seed, layer, head, np.exp((0.5 if layer == 10 else 0.1) + 0.01 * rng.normal()))
        for arm, layers in adapted.items()
        for seed in SEEDS
        for layer in layers
        for head in range(3)
    ]
    answers = items_of(["base", "colocated", "random"], list(SEEDS), {"mini_arc": 40}, rng, gain=2.0)
    placement = contrasts.contrast(
        answers,
        draws(1.3, rng),
        {"reference": "colocated", "against": []},
        random_arms=["random", *(f"random_draws-draw{i}" for i in range(19))],
    )
    table = study["contrasts"]
    twin_rows = [(f"random{i}", "random", i, "s", "r", 0.6 + 0.05 * rng.normal(), 0.1) for i in range(5)]
    return study | {
        "correlations": study["correlations"].assign(partial_reliability_x=0.9, partial_reliability_y=0.9),
        "contrasts": pd.concat([table, placement[placement["n_draws"].notna()]], ignore_index=True),
        "layer_sets": study["layer_sets"] | {"sensitive": {"layers": sensitive}},
        "alphas": pd.DataFrame(alphas, columns=["arm", "seed", "layer", "kv_head", "alpha"]),
        "twins": pd.DataFrame(twin_rows, columns=twins.COLUMNS),
        "items": study["items"] | {"exits": rising(True, rng), "probes": rising(True, rng)},
        "metrics": {"exits": "early_exit", "probes": "probe"},
        "arms": [
            resolved("mid_block_as_published", range(6, 24), 500),
            resolved("standard_lora_full_rank", range(L), 1000),
        ],
        "validate_loss": {"mid_block": 1.5, "segment_2": 1.2} | dict.fromkeys(contrasts.MASKS[1:3], 1.4),
        "cka": by_layer(np.r_[np.full(24, 0.99), np.full(6, 0.9)], rng=rng),
        "segment_swap": by_layer(np.r_[np.zeros(12), np.full(6, 0.2), np.zeros(12)], rng=rng),
    }


@pytest.fixture(scope="module")
def rows(whole) -> pd.DataFrame:
    return claims.judge(CSV, evidence.evidence(**whole)).set_index(["claim", "scope"])


PER_MODEL = [
    row["claim"] for row in claims.read_claims(CSV).to_dict("records") if row["evidence"] not in evidence.OF_THE_STUDY
]


@pytest.mark.parametrize("claim", PER_MODEL)
def test_every_claim_of_one_model_is_judged(rows, claim):
    row = rows.loc[(claim, "conceptual")]
    assert row["verdict"] in JUDGED, row["why"]
    assert np.isfinite([row["measured"], row["ci_low"], row["ci_high"]]).all()


MADE = {
    "anti-localization beyond architecture": "holds_here",
    "better than random placement": "holds_here",
    "alphas peak at the first layer of S": "holds_here",
    "middle stable, end not": "holds_here",
    "early layers structural, late layers decide the task": "holds_here",
    "Mid-Block needs fewer parameters and less time": "holds_here",
    "one scan serves all tasks": "holds_here",
    "late for tasks, early for position": "does_not_hold_here",
}


@pytest.mark.parametrize("claim", MADE)
def test_verdicts_are_those_that_were_made(rows, claim):
    assert rows.loc[(claim, "conceptual"), "verdict"] == MADE[claim]


def judged(whole: dict, claim: str, **changes) -> pd.Series:
    table = claims.judge(CSV, evidence.evidence(**(whole | changes))).set_index(["claim", "scope"])
    return table.loc[(claim, "conceptual")]


def test_the_best_mask_and_segment_are_chosen_on_validate(whole, rows):
    claim = "Mid-Block above standard LoRA"
    assert "mid_block: losses on validate are not known" in rows.loc[(claim, "conceptual"), "why"]
    losses = dict.fromkeys([*contrasts.MASKS, *contrasts.SEGMENTS], 1.5) | {"segment_3": 1.1}
    row = judged(whole, claim, validate_loss=losses)
    assert "segment_3 chosen of 6 on validate; segment_3 - standard_lora on composite" in row["why"]
    assert judged(whole, claim, validate_loss=losses | {"mid_block": 1.0})["measured"] != row["measured"]
    assert "segment_3 chosen of 4 on validate" in judged(whole, "last segment worst", validate_loss=losses)["why"]


def test_rank_of_the_reference_among_random_draws(whole, rows):
    found = whole["contrasts"].dropna(subset=["n_draws"])
    assert found[["arm_a", "arm_b", "outcome", "n_draws"]].to_numpy().tolist() == [
        ["colocated", "random_draws", "heldout_loss", 38]
    ]
    assert found["p"].iloc[0] == pytest.approx(1 / 39)
    assert found["ci_high"].iloc[0] < 0
    assert "from the mean of 38 draws" in rows.loc[("better than random placement", "conceptual"), "why"]
    worse = whole["contrasts"].assign(p=whole["contrasts"]["p"].mask(whole["contrasts"]["n_draws"].notna(), 0.4))
    row = judged(whole, "better than random placement", contrasts=worse)
    assert row["verdict"] == "cannot_tell"
    assert "p = 0.4" in row["why"]


def test_early_exit_and_probe_that_rise_early_contradict(whole):
    rng = np.random.default_rng(3)
    items = whole["items"] | {"exits": rising(False, rng), "probes": rising(False, rng)}
    claim = "early layers structural, late layers decide the task"
    assert judged(whole, claim, items=items)["verdict"] == "does_not_hold_here"
    row = judged(whole, claim, metrics={"exits": "early_exit"})
    assert row["verdict"] == "cannot_tell"
    assert "probe has no item values here" in row["why"]


def test_arms_of_one_budget_say_nothing_of_a_saving(whole):
    """The two have as many parameters because the study gives them as many."""
    arms = [resolved("mid_block", range(6, 24), 1000), resolved("standard_lora", range(L), 1000)]
    row = judged(whole, "Mid-Block needs fewer parameters and less time", arms=arms)
    assert row["verdict"] == "not_tested"
    assert "mid_block_as_published" in row["why"]


def test_as_many_parameters_are_no_saving(whole):
    published = ("mid_block_as_published", "standard_lora_full_rank")
    arms = [resolved(name, layers, 1000) for name, layers in zip(published, (range(6, 24), range(L)), strict=True)]
    row = judged(whole, "Mid-Block needs fewer parameters and less time", arms=arms)
    assert row["verdict"] == "does_not_hold_here"
    assert row["label"] == "absent"
    assert "share of parameters saved is 0" in row["why"]
    assert "compute 90 %" in row["why"]  # 60 layers of forward and backward less the 6 below the first adapted one


def test_a_claim_finds_an_arm_that_ran_under_another_name(whole, rows):
    """Every row is the same when standard_lora_full_rank and mid_block ran as `one` and `two`."""
    names = {"standard_lora_full_rank": "one", "mid_block": "two"}
    tables = {name: whole[name].replace(names) for name in ("contrasts", "summaries", "alphas", "cka", "segment_swap")}
    arms = [arm | {"arm": names.get(arm["arm"], arm["arm"])} for arm in whole["arms"]]
    losses = {names.get(arm, arm): loss for arm, loss in whole["validate_loss"].items()}
    renamed = whole | tables | {"arms": arms, "validate_loss": losses, "aliases": names}
    again = claims.judge(CSV, evidence.evidence(**renamed)).set_index(["claim", "scope"])
    pd.testing.assert_frame_equal(again, rows)


def test_a_segment_that_stands_out_in_every_seed_is_found_and_chance_is_not():
    rng = np.random.default_rng(4)
    values = 0.02 * rng.normal(size=(6, 5)) + np.array([0, 0, 0.3, 0, 0])
    assert localisation(values).mean() == pytest.approx(0.3, abs=0.05)
    chance = np.array([localisation(rng.normal(size=(4, 5))).mean() for _ in range(500)])
    assert chance.mean() == pytest.approx(0, abs=4 * chance.std() / np.sqrt(500))


def test_both_readings_of_ten_per_cent(rows):
    why = rows.loc[("Mid-Block +10.2 % on GSM8K", "conceptual"), "why"]
    assert "points" in why
    assert "% of standard_lora" in why


def test_claims_about_several_models_point_to_their_own_table(rows):
    for claim in ("anti-localization in GQA models", "cost of 100 dollars"):
        assert "see across_claims.csv" in rows.loc[(claim, "conceptual"), "why"]


# The study as a whole


def model_rows(r: float, half: float = 0.1, reliability: float = 0.95) -> pd.DataFrame:
    row = {"primary": True, "r_s": r, "r_dis": r, "ci_low": r - half, "ci_high": r + half, "p_depth": 0.1}
    return pd.DataFrame([row | {"reliability_x": reliability, "reliability_y": reliability}])


BILL = pd.DataFrame({"rule": ["train_arm", "evaluate_arm"], "cost": [60.0, 70.0], "currency": "USD"})
NO_CONTRASTS = pd.DataFrame(columns=["arm_a", "arm_b", "outcome", "difference"])
NAMES = (
    "llama31-8b",
    "qwen3-8b",
    "gemma2-9b",
    "mistral-7b",
    "phi4",
    "smollm2-135m",
    "olmo2-1b",
    "olmo2-7b",
    "pythia-1b",
)


def sizes_table(measured: float) -> pd.DataFrame:
    rows = claims.read_claims(CSV)
    chosen = rows.loc[rows["evidence"].isin(over_models.SIZE_CLAIMS), "claim"]
    row = {"scope": "conceptual", "verdict": "holds_here", "measured": measured}
    return pd.DataFrame([row | {"claim": claim, "ci_low": measured - 1, "ci_high": measured + 1} for claim in chosen])


def study_rows(correlations: dict, measured: float = 3.0, bill: pd.DataFrame = BILL) -> pd.DataFrame:
    geometries = {
        name: {"attention": "MHA" if name[:4] in ("olmo", "pyth") else "GQA", "n_params": (i + 1) * 10**9}
        for i, name in enumerate(correlations)
    }
    table = across.compare(geometries, correlations, dict.fromkeys(correlations, NO_CONTRASTS))
    verdicts = dict.fromkeys(correlations, sizes_table(measured))
    found = over_models.evidence(table, correlations, verdicts, bill, CSV, FULL)
    return claims.judge(CSV, found, only=over_models.OF_THE_STUDY).set_index(["claim", "scope"])


@pytest.fixture(scope="module")
def correlated() -> dict:
    rng = np.random.default_rng(5)
    return {name: model_rows((-0.1 if name[:4] in ("olmo", "pyth") else -0.6) + 0.05 * rng.normal()) for name in NAMES}


def test_claims_over_models_are_judged(correlated):
    table = study_rows(correlated)
    assert len(table) == 8
    gqa = table.loc[("anti-localization in GQA models", "direct")]
    assert gqa["verdict"] == "reproduced"
    assert gqa["measured"] == pytest.approx(0.6, abs=0.05)
    assert gqa["why"].count(",") >= 5
    more = table.loc[("anti-localization more in GQA than in MHA", "conceptual")]
    assert more["verdict"] == "holds_here"
    assert more["measured"] == pytest.approx(0.5, abs=0.1)
    assert table.loc[("the picture holds from 1B to 32B", "conceptual"), "verdict"] == "holds_here"
    assert "olmo, 7B to 8B, 2 sizes" in table.loc[("the picture holds from 1B to 32B", "conceptual"), "why"]
    against = study_rows(correlated, measured=-3.0)
    assert against.loc[("the picture holds from 1B to 32B", "conceptual"), "verdict"] == "does_not_hold_here"


def test_cost_is_judged_for_the_published_study_alone(correlated):
    claim = ("cost of 100 dollars", "direct")
    row = study_rows(correlated).loc[claim]
    assert row["verdict"] == "inconclusive"  # 60 for training, 130 in all: it depends on what was meant
    assert (row["ci_low"], row["ci_high"]) == (-30, 40)
    assert study_rows(correlated, bill=BILL.assign(cost=[20.0, 30.0])).loc[claim, "verdict"] == "reproduced"
    assert study_rows(correlated, bill=BILL.assign(cost=[200.0, 30.0])).loc[claim, "verdict"] == "contradicted"
    missing = over_models.cost(BILL, "made on Llama 3.1 8B").missing
    assert "compute.csv" in missing


def test_too_few_families_and_unreliable_models_are_named(correlated):
    some = {name: correlated[name] for name in NAMES[:5]} | {"smollm2-135m": model_rows(-0.6, reliability=0.5)}
    table = study_rows(some)
    row = table.loc[("anti-localization in GQA models", "conceptual")]
    assert row["verdict"] == "not_tested"
    assert "needs 6 families with grouped-query attention, this study has 5" in row["why"]
    assert "profiles not reliable: smollm2-135m" in row["why"]
    assert "5 GQA and 0 MHA" in table.loc[("anti-localization more in GQA than in MHA", "conceptual"), "why"]
    assert "several sizes, this study has none" in table.loc[("the picture holds from 1B to 32B", "conceptual"), "why"]


def test_sizes_of_one_family_are_one_unit():
    two = {"olmo2-1b": model_rows(-0.5), "olmo2-7b": model_rows(-0.5)}
    families = across.by_family(pd.concat(two.values()).assign(family="olmo", attention="MHA"))
    assert families["n_models"].tolist() == [2]
    _, variance = across.on_z([-0.5], [-0.6], [-0.4])
    assert families["variance"].iloc[0] == pytest.approx(variance[0] / 2)


def test_difference_of_attention_kinds_covers():
    """Six GQA families about 0.6 and four MHA families about 0.2 in -r: the interval holds 0.4."""
    rng, covered, replicates = np.random.default_rng(6), 0, 300
    for _ in range(replicates):
        kinds = ["GQA"] * 6 + ["MHA"] * 4
        z = (
            np.arctanh(np.where(np.array(kinds) == "GQA", -0.6, -0.2))
            + 0.15 * rng.normal(size=10)
            + 0.1 * rng.normal(size=10)
        )
        families = pd.DataFrame(
            {"family": [*"abcdefghij"], "attention": kinds, "n_models": 1, "z": z, "variance": 0.01}
        )
        part: Part = over_models.gqa_minus_mha(families).parts[0]
        covered += part.low <= 0.4 <= part.high
    assert 0.91 <= covered / replicates <= 0.99
