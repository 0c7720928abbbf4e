"""Correlations of layer profiles: p values on null profiles, intervals by simulation, and the bookkeeping."""

import numpy as np
import pandas as pd
import pytest
from scipy import fft, stats

from colocate.errors import InputError
from colocate.statistics import correlations, nulls, reliability, surrogates

L = 32
DEPTH = np.arange(L, dtype=float)


def smooth(rng, length: float) -> np.ndarray:
    return nulls.smooth(length)(rng, 1, L)[0]


def rejections(null, replicates: int = 600) -> tuple[float, float]:
    """Share of independent pairs of profiles with p <= 0.05: the plain test, and p_depth."""
    rng = np.random.default_rng(7)
    signs, basis = surrogates.random_signs(399, L, 0), surrogates.depth_basis(DEPTH, 1)
    p = []
    for x, y in zip(null(rng, replicates, L), null(rng, replicates, L), strict=True):
        scores = surrogates.normal_scores(x), surrogates.normal_scores(y)
        p.append([stats.spearmanr(x, y).pvalue, surrogates.surrogate_p(*scores, signs, basis)])
    plain, given_depth = (np.array(p) <= 0.05).mean(axis=0)
    return plain, given_depth


@pytest.mark.parametrize("name", nulls.NULLS)
def test_level_of_p_depth_and_failure_of_the_plain_p(name):
    plain, given_depth = rejections(nulls.NULLS[name])
    assert given_depth <= 0.10
    if name == "white":
        assert plain <= 0.08
    else:
        assert plain >= 0.15


def test_p_depth_has_power():
    rng, found = np.random.default_rng(3), []
    signs, basis = surrogates.random_signs(399, L, 0), surrogates.depth_basis(DEPTH, 1)
    for _ in range(100):
        x = nulls.autoregressive(0.5)(rng, 1, L)[0]
        y = -x + 0.5 * rng.normal(size=L)
        found.append(surrogates.surrogate_p(surrogates.normal_scores(x), surrogates.normal_scores(y), signs, basis))
    assert np.mean(np.array(found) <= 0.05) >= 0.9


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_surrogate_p_is_that_of_explicit_surrogates(degree):
    rng = np.random.default_rng(0)
    x, y = (surrogates.normal_scores(smooth(rng, 2)) for _ in range(2))
    signs, powers = surrogates.random_signs(300, L, 1), np.vander(DEPTH / L, degree + 1)

    def residual(z):
        return z - powers @ np.linalg.lstsq(powers, z, rcond=None)[0]

    x, y = residual(x), residual(y)
    made = [residual(fft.idct(sign * fft.dct(x, norm="ortho"), norm="ortho")) for sign in signs]
    r = np.array([np.corrcoef(z, y)[0, 1] for z in made])
    expected = (1 + (np.abs(r) >= abs(np.corrcoef(x, y)[0, 1])).sum()) / 301
    p = surrogates.surrogate_p(x, y, signs, surrogates.depth_basis(DEPTH, degree))
    assert p == pytest.approx(expected, abs=1e-12)


def test_modified_t_is_the_plain_t_for_white_profiles_and_larger_for_smooth_ones():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=2000), rng.normal(size=2000)
    assert surrogates.modified_t_p(x, y) == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.1)
    x, y = DEPTH + 3 * rng.normal(size=L), DEPTH + 3 * rng.normal(size=L)
    assert surrogates.modified_t_p(x, y) > 100 * stats.pearsonr(x, y).pvalue


def test_published_p_is_the_plain_t_test():
    """-0.735 over 32 layers gives the printed 1.66e-6 only if layers are taken as independent."""
    t = 0.735 * np.sqrt(30 / (1 - 0.735**2))
    assert 2 * stats.t.sf(t, 30) == pytest.approx(1.66e-6, rel=0.01)


def test_partial_rank_correlation_is_the_textbook_formula():
    rng = np.random.default_rng(5)
    x, y = DEPTH + 5 * rng.normal(size=L), -DEPTH + 5 * rng.normal(size=L)
    xy, xd, yd = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, DEPTH), (y, DEPTH)))
    expected = (xy - xd * yd) / np.sqrt((1 - xd**2) * (1 - yd**2))
    assert correlations.partial_rank_correlation(x, y, DEPTH) == pytest.approx(expected, abs=1e-12)


def item_set(rng, profile: np.ndarray, n: int, noise: float, prefix: str) -> reliability.ItemScores:
    scores = profile + noise * rng.normal(size=(n, len(profile)))
    return reliability.ItemScores([f"{prefix}{i}" for i in range(n)], scores - scores.mean(1, keepdims=True), 0)


def test_interval_covers_where_the_percentile_bootstrap_fails():
    rng, basis = np.random.default_rng(11), surrogates.depth_basis(DEPTH, 0)
    covered, plain = [], []
    for _ in range(150):
        x = smooth(rng, 3)
        y = -0.8 * x + 0.6 * smooth(rng, 3)
        true = stats.spearmanr(x, y).statistic
        one, other = item_set(rng, x, 15, 1.0, "a"), item_set(rng, y, 15, 1.0, "b")
        low, high = reliability.associate(one, other, basis, rng, draws=500).interval95
        covered.append(low <= true <= high)
        weights = reliability.draw_items(one.names, other.names, 500, rng)
        drawn = [reliability.unit_ranks(w @ s.scores, basis) for w, s in zip(weights, (one, other), strict=True)]
        low, high = np.percentile((drawn[0] * drawn[1]).sum(axis=1), [2.5, 97.5])
        plain.append(low <= true <= high)
    assert np.mean(covered) >= 0.88
    assert np.mean(plain) <= 0.6


def test_reliability_is_that_of_the_signal():
    """Over many layers, R = var(profile) / (var(profile) + noise variance / n)."""
    rng = np.random.default_rng(2)
    basis = surrogates.depth_basis(np.arange(4000.0), 0)
    items = item_set(rng, rng.normal(size=4000), 12, 2.0, "i")
    assert reliability.reliability(items.scores, basis, rng) == pytest.approx(1 / (1 + 4 / 12), abs=0.03)
    noise = item_set(rng, np.zeros(4000), 12, 1.0, "i")
    assert reliability.reliability(noise.scores, basis, rng) < 0.05
    assert np.isnan(reliability.reliability(noise.scores[:3], basis, rng))


def test_items_needed_is_spearman_brown_backwards():
    assert reliability.items_needed(0.5, 10) == 90
    r, n = 0.8, 20
    needed = reliability.items_needed(r, n, target=0.9)
    assert needed * r / (n + (needed - n) * r) == pytest.approx(0.9)
    assert reliability.items_needed(0.0, 10) == float("inf")


def test_one_draw_serves_both_profiles_where_they_share_items():
    x, y = reliability.draw_items(["a", "b", "c", "d"], ["c", "e", "a"], 200, np.random.default_rng(0))
    assert (x[:, 2] == y[:, 0]).all()
    assert (x[:, 0] == y[:, 2]).all()
    assert (x.sum(axis=1) == 4).all()
    assert (y.sum(axis=1) == 3).all()
    assert x[:, 1].std() > 0


def long(values: np.ndarray, prefix: str) -> pd.DataFrame:
    n, n_layers = values.shape
    names = np.repeat([f"{prefix}{i}" for i in range(n)], n_layers)
    return pd.DataFrame({"item": names, "layer": np.tile(np.arange(n_layers), n), "value": values.ravel()})


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(4)
    profiles, items = {}, {}
    for name, sign, n in (("sensitivity", 1, 24), ("rope", -1, 12), ("no_items", -1, 0)):
        values = np.exp(sign * np.sin(np.arange(30) / 4) + 0.3 * rng.normal(size=(max(n, 1), 30)))
        items[name] = long(values, name) if n else None
        profiles[name] = pd.DataFrame({"layer": range(30), "value": values.mean(axis=0)})
    return profiles, items


PAIRS = [("sensitivity", "rope"), ("sensitivity", "no_items")]


def test_table_has_its_columns_and_both_kinds_of_row(study):
    table = correlations.correlate(*study, PAIRS, PAIRS[0], n_surrogates=499)
    assert list(table.columns) == correlations.COLUMNS
    assert table["primary"].tolist() == [True, False]
    row = table.iloc[0]
    x, y = (study[0][name]["value"] for name in PAIRS[0])
    assert row["r_s"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert row["p_plain"] == pytest.approx(stats.spearmanr(x, y).pvalue)
    assert row["p_plain"] < row["p_raw"]
    assert row["ci_low"] < row["r_dis"] < row["ci_high"] < 0
    assert row["ci_low"] <= row["ci90_low"] < row["ci90_high"] <= row["ci_high"]
    assert row["r_dis"] == pytest.approx(row["r_items"] / np.sqrt(row["reliability_x"] * row["reliability_y"]))
    assert (row["n_items_x"], row["n_items_y"], row["overlap_k"]) == (24, 12, 8)
    assert np.isnan(table["ci_low"].iloc[1])
    assert "no_items has no items" in table["note"].iloc[1]


def test_results_do_not_depend_on_which_other_pairs_are_asked_for(study):
    alone = correlations.correlate(*study, PAIRS[1:], None, n_surrogates=199)
    both = correlations.correlate(*study, PAIRS, PAIRS[0], n_surrogates=199)
    pd.testing.assert_series_equal(alone.iloc[0], both.iloc[1], check_names=False)


def test_layers_without_rope_are_left_out_by_name(study):
    profiles, items = {name: table.copy() for name, table in study[0].items()}, dict(study[1])
    profiles["rope"].loc[[3, 7], "value"] = np.nan
    items["rope"] = items["rope"].assign(value=items["rope"]["value"].where(~items["rope"]["layer"].isin([3, 7])))
    table = correlations.correlate(profiles, items, PAIRS[:1], PAIRS[0], n_surrogates=99)
    assert table["n_layers"].iloc[0] == 28
    assert "rope has no value at layers [3, 7]" in table["note"].iloc[0]
    assert np.isfinite(table["r_dis"].iloc[0])


def test_ties_overlap_and_unresolved_layers_are_named_with_what_to_do(study):
    profiles = {name: table.copy() for name, table in study[0].items()}
    profiles["rope"]["value"] = profiles["sensitivity"]["value"]
    profiles["rope"].loc[[18, 19], "value"] = 0.01
    rows = [profiles["rope"].assign(variant=name, item="w0", kv_head=-1) for name in ("output", "noise_floor")]
    rows[1]["value"] *= np.where(rows[1]["layer"] == 7, 0.9, 0.01)
    variants = {"rope": pd.concat(rows, ignore_index=True)}
    note = correlations.correlate(profiles, {}, PAIRS[:1], PAIRS[0], n_surrogates=99, variants=variants)["note"].iloc[0]
    assert "rope: layers [18, 19] are tied" in note
    assert "rope: layers [7] are under 3 times their noise floor; raise log_alpha" in note
    assert "S and R share 8 of 8 layers" in note
    assert "take a smaller top, or another primary pair" in note


def test_values_at_zero_are_raised_and_counted(study):
    items = dict(study[1])
    items["rope"] = items["rope"].assign(value=items["rope"]["value"].where(items["rope"].index > 0, 0.0))
    table = correlations.correlate(study[0], items, PAIRS[:1], PAIRS[0], n_surrogates=99)
    assert "rope: 1 item values at or below 0" in table["note"].iloc[0]
    assert np.isfinite(table["ci_low"].iloc[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, i: p.pop("rope"), "profile rope: not computed"),
        (lambda p, i: p.update(rope=p["rope"].assign(value=1.0)), "same value at every layer"),
        (lambda p, i: p.update(rope=p["rope"].head(3)), "3 common layers"),
        (lambda p, i: i.update(rope=i["rope"].head(-1)), "without a value at every layer"),
        (lambda p, i: i.update(rope=pd.concat([i["rope"], i["rope"].head(1)])), "two values at layer 0"),
    ],
)
def test_bad_input_is_refused_with_its_name(study, change, message):
    profiles, items = dict(study[0]), dict(study[1])
    change(profiles, items)
    with pytest.raises(InputError, match=message):
        correlations.correlate(profiles, items, PAIRS[:1], PAIRS[0], n_surrogates=99)


def test_primary_pair_must_be_among_the_pairs(study):
    with pytest.raises(InputError, match="primary pair"):
        correlations.correlate(*study, PAIRS, ("rope", "sensitivity"), n_surrogates=99)


def test_a_model_of_four_layers_has_no_p_value_but_a_row():
    profiles = {
        name: pd.DataFrame({"layer": range(4), "value": v}) for name, v in (("a", [1, 2, 3, 5]), ("b", [4, 3, 1, 2]))
    }
    table = correlations.correlate(profiles, {}, [("a", "b")], ("a", "b"), n_surrogates=99)
    assert np.isnan(table["p_depth"].iloc[0])
    assert table["r_s"].iloc[0] == pytest.approx(-0.8)
