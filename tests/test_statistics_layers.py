"""Choices of layers: how sure they are, how many items they take, whether domains agree, and what cheap ones lose."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colocate.errors import InputError
from colocate.statistics import domains, layer_choice, nulls, regret, reliability, stability, twins

L = 20
LAYERS = np.arange(L)


def long(values: np.ndarray, prefix: str = "i") -> pd.DataFrame:
    """(n, L) values as `item,layer,value`."""
    n, n_layers = values.shape
    names = np.repeat([f"{prefix}{i}" for i in range(n)], n_layers)
    return pd.DataFrame({"item": names, "layer": np.tile(np.arange(n_layers), n), "value": values.ravel()})


def noisy(rng, profile: np.ndarray, n: int, noise: float = 1.0) -> np.ndarray:
    return np.exp(profile + noise * rng.normal(size=(n, len(profile))))


def profile(values) -> pd.DataFrame:
    return pd.DataFrame({"layer": range(len(values)), "value": np.asarray(values, float)})


# Selection and stability


def test_selection_is_certain_where_the_layers_stand_out():
    rng = np.random.default_rng(0)
    peaks = np.where(np.isin(LAYERS, [1, 3, 5, 7, 9, 11]), 4.0, 0.0)
    table = stability.selection({"a": long(noisy(rng, peaks, 20, 0.1)), "none": None})
    assert list(table.columns) == stability.SELECTION
    assert table["probability"].sum() == pytest.approx(6)  # 0.28 of 20 layers
    assert set(table.loc[table["probability"] == 1, "layer"]) == {1, 3, 5, 7, 9, 11}
    assert (table["n_items"] == 20).all()


def test_selection_probabilities_are_those_of_new_items():
    """Layers chosen in 90 % of resamples are chosen in nearly as many samples of new items; the others in fewer."""
    rng, sure, unsure = np.random.default_rng(1), [], []
    for _ in range(40):
        true = nulls.smooth(2)(rng, 1, L)[0]
        found = stability.selection({"a": long(noisy(rng, true, 20))})["probability"].to_numpy()
        again = np.mean([reliability.top_of(noisy(rng, true, 20).mean(axis=0)[None], 6)[0] for _ in range(60)], axis=0)
        sure += again[found >= 0.9].tolist()
        unsure += again[(found > 0.3) & (found < 0.7)].tolist()
    assert np.mean(sure) >= 0.85
    assert 0.25 <= np.mean(unsure) <= 0.75


def test_stability_grows_with_items_and_marks_the_published_number():
    rng = np.random.default_rng(2)
    items = {"a": long(noisy(rng, nulls.smooth(2)(rng, 1, L)[0], 64)), "few": long(np.ones((3, L)))}
    table = stability.stability(items, distances=["a"])
    assert list(table.columns) == stability.STABILITY
    assert set(table["profile"]) == {"a"}
    assert table.loc[table["published"], "n_items"].tolist() == [15]
    assert table["n_items"].iloc[-1] == 64
    assert table["rank_correlation"].is_monotonic_increasing
    assert table.iloc[-1][["rank_correlation", "jaccard"]].tolist() == pytest.approx([1, 1])
    assert table["reliability"].iloc[-1] < 1


def test_reliability_at_n_items_is_that_of_the_signal():
    """R(n) = var(profile) / (var(profile) + noise variance / n), below and above half of the items."""
    rng, n_layers = np.random.default_rng(3), 1500
    values = noisy(rng, rng.normal(size=n_layers), 24, 2.0)
    both = {"a": long(values), "accuracy": long(np.log(values))}  # the latter has values below 0, and is no distance
    table = stability.stability(both, distances=["a"]).set_index(["profile", "n_items"])
    for n in (4, 10, 20, 24):
        assert table.loc[("a", n), "reliability"] == pytest.approx(1 / (1 + 4 / n), abs=0.05)
        assert table.loc[("accuracy", n), "reliability"] == pytest.approx(table.loc[("a", n), "reliability"])


# Domains


def domain_table(groups: dict[str, np.ndarray], **labels) -> pd.DataFrame:
    items = pd.concat([long(values, prefix=name) for name, values in groups.items()], ignore_index=True)
    owner = {f"{name}{i}": name for name, values in groups.items() for i in range(len(values))}
    return domains.domains(
        {"s": items, "none": None}, {"domain": owner, "language": dict.fromkeys(owner, "en")} | labels
    )


def test_domains_that_agree_and_one_that_does_not():
    rng = np.random.default_rng(4)
    shape = np.linspace(0, 2, L)
    groups = {
        "code": noisy(rng, shape, 12, 0.2),
        "maths": noisy(rng, shape, 12, 0.2),
        "world": noisy(rng, -shape, 12, 0.2),
    }
    table = domain_table(groups)
    assert list(table.columns) == domains.COLUMNS
    rows = table[table["kind"] == "domain"].set_index(["a", "b"])
    assert rows.loc[("code", "maths"), "r_dis"] > 0.95
    assert rows.loc[("code", "maths"), "jaccard"] == 1
    assert rows.loc[("code", "world"), "ci_high"] < -0.8
    assert rows.loc[("code", "world"), "jaccard"] == 0
    expected = stats.spearmanr(groups["code"].mean(axis=0), groups["world"].mean(axis=0)).statistic
    assert rows.loc[("code", "world"), "r_s"] == pytest.approx(expected)
    language = table[table["kind"] == "language"]
    assert language["note"].tolist() == [
        "all pairs are of one language, en: nothing to compare; add pairs of another language"
    ]


def test_domains_with_few_items_have_no_interval_and_swaps_belong_to_their_first_pair():
    rng = np.random.default_rng(5)
    groups = {"code": noisy(rng, LAYERS / L, 8), "maths": noisy(rng, LAYERS / L, 3)}
    row = domain_table(groups).iloc[0]
    assert row["note"] == "maths: fewer than 4 items, no interval"
    assert np.isnan(row["ci_low"])
    assert np.isfinite(row["r_s"])
    items = long(noisy(rng, LAYERS / L, 4)).assign(item=lambda t: t["item"] + "+other")
    table = domains.domains({"s": items}, {"domain": {f"i{i}": "code" for i in range(4)}, "language": {}})
    assert table["a"].tolist() == ["code"]
    assert table["n_a"].tolist() == [4]


# Twins


def test_twins_are_correlated_like_the_model():
    rng = np.random.default_rng(6)
    pairs = {
        name: {"s": profile(rng.normal(size=L)), "r": profile(rng.normal(size=L))} for name in ("shuffled0", "random1")
    }
    table = twins.twins(pairs, ("s", "r"))
    assert table["twin"].tolist() == ["random1", "shuffled0"]
    expected = stats.spearmanr(pairs["random1"]["s"]["value"], pairs["random1"]["r"]["value"]).statistic
    assert table["r_s"].iloc[0] == pytest.approx(expected)
    assert twins.twins({}, ("s", "r")).columns.tolist() == twins.COLUMNS
    with pytest.raises(InputError, match="found 'copy0'; allowed: random or shuffled"):
        twins.twins({"copy0": pairs["random1"]}, ("s", "r"))


def test_interval_beyond_the_architecture_covers():
    """Five twins about 0.6, a model about -0.2 known up to item noise of 0.1: d = -0.8."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(400):
        r = -0.2 + 0.1 * rng.normal()
        primary = {
            "r_s": r,
            "reliability_x": 1.0,
            "reliability_y": 0.81,
            "ci_low": r - 0.196 / 0.9,
            "ci_high": r + 0.196 / 0.9,
        }
        table = pd.DataFrame({"kind": ["random"] * 5 + ["shuffled"], "r_s": [*(0.6 + 0.15 * rng.normal(size=5)), 0.0]})
        _, low, high, _ = twins.beyond_architecture(primary, table)
        covered += low <= -0.8 <= high
    assert 0.92 <= covered / 400 <= 0.98
    assert np.isnan(twins.beyond_architecture(primary, table.head(1))[1])


# Regret


def gain_table(values: np.ndarray) -> pd.DataFrame:
    """(seeds, L) gains as the joined profile: mean, t interval, seeds."""
    seeds = len(values)
    half = stats.t.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
    mean = values.mean(axis=0)
    return profile(mean).assign(ci_low=mean - half, ci_high=mean + half, n=seeds)


def test_regret_by_hand():
    gains = np.array([4.0, 3, 2, 1, 0, 2])
    assert regret.regret(gains, np.array([1, 1, 0, 0, 0, 0], bool)) == 0
    assert regret.regret(gains, np.array([0, 0, 1, 0, 0, 1], bool)) == pytest.approx(1)  # 4 of 7, and the mean is 4
    assert regret.regret(gains, np.array([0, 0, 0, 1, 1, 0], bool)) == pytest.approx(2)
    assert np.isnan(regret.regret(np.ones(4), np.array([1, 0, 0, 0], bool)))


def test_regret_is_0_for_the_true_metric_and_1_for_random_ones():
    rng = np.random.default_rng(8)
    true = rng.normal(size=L)
    profiles = {"true": profile(true)} | {f"random{i}": profile(rng.normal(size=L)) for i in range(300)}
    table = regret.regrets(profiles, {"layer_gain": gain_table(true[None])}).set_index(["metric", "direction"])
    assert table.loc[("true", "top"), "regret"] == pytest.approx(0, abs=1e-12)
    assert table.loc[("true", "bottom"), "regret"] > 1.5
    chance = table.loc[table.index.get_level_values("metric") != "true", "regret"]
    assert chance.mean() == pytest.approx(1, abs=4 * chance.std() / np.sqrt(len(chance)))
    assert table["ci_low"].isna().all()  # one seed
    assert table["k"].eq(6).all()


def test_interval_of_regret_covers():
    rng, covered = np.random.default_rng(9), 0
    for _ in range(120):
        true = 0.05 * rng.normal(size=L)
        metric = true + 0.05 * rng.normal(size=L)
        gain = gain_table(true + 0.02 * rng.normal(size=(3, L)))
        row = regret.regrets({"m": profile(metric)}, {"layer_gain": gain}).iloc[0]
        covered += row["ci_low"] <= regret.regret(true, reliability.top_of(metric[None], 6)[0]) <= row["ci_high"]
    assert covered / 120 >= 0.85


def test_regret_names_ties_gaps_and_missing_gains():
    gain = gain_table(np.random.default_rng(10).normal(size=(2, L)))
    tied, few = profile(np.zeros(L)), profile(np.where(LAYERS < 3, 1.0 + LAYERS, np.nan))
    table = regret.regrets({"tied": tied, "few": few}, {"layer_gain": gain}).set_index(["metric", "direction"])
    assert "are tied at the edge of the set" in table.loc[("tied", "top"), "note"]
    assert table.loc[("few", "top"), "note"] == "few has values at 3 layers only"
    assert regret.regrets({"tied": tied}, {}).columns.tolist() == regret.COLUMNS
    with pytest.raises(InputError, match="layers \\[2\\] have no finite gain"):
        regret.regrets({"tied": tied}, {"layer_gain": gain.assign(value=gain["value"].where(gain["layer"] != 2))})


# A choice without a trained arm


def test_layers_are_chosen_by_gain_where_they_stand_out():
    rng = np.random.default_rng(11)
    true = np.where(LAYERS >= 14, 0.3, 0.0)
    found = layer_choice.by_gain({"layer_gain": gain_table(true + 0.005 * rng.normal(size=(3, L)))})
    assert found["lora_layers"] == list(range(14, 20))
    assert found["in_question"] == []
    assert found["basis"] == "layer_gain"
    assert "6 of them are chosen in 90% of noisy repeats" in found["why"]
    assert min(found["probability"][str(layer)] for layer in range(14, 20)) == 1


def test_all_layers_where_gains_do_not_tell_them_apart():
    rng = np.random.default_rng(12)
    found = layer_choice.by_gain({"layer_gain_without": gain_table(0.1 + 0.05 * rng.normal(size=(2, L)))})
    assert found["all_layers"] is True
    assert found["lora_layers"] == list(range(L))
    assert "there is nothing to choose by" in found["why"]


def test_one_seed_of_gain_says_that_nothing_is_known_of_noise():
    found = layer_choice.by_gain({"layer_gain_block": gain_table(np.arange(float(L))[None])})
    assert found["lora_layers"] == list(range(14, 20))
    assert "With one seed nothing is known" in found["why"]
    assert found["se"] is None


def test_a_proxy_is_called_one():
    values = np.where(LAYERS == 4, np.nan, LAYERS)
    selection = pd.DataFrame({"profile": "s", "layer": LAYERS, "probability": (LAYERS > 15) / 1.0, "n_items": 72})
    found = layer_choice.by_proxy("s", profile(values), selection)
    assert found["lora_layers"] == list(range(15, 20))  # 0.28 of the 19 layers that have a value
    assert found["why"].startswith("A proxy: the 5 layers highest in s. Nothing was trained")
    assert "4 of them are chosen in 90% of draws of its 72 items" in found["why"]
