"""Contrasts of arms: the variance against written-out references, coverage by simulation, and the table's rows."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colocate.errors import InputError
from colocate.statistics import contrasts, power, variance
from colocate.statistics.benchmarks import count_in_words, domain
from colocate.statistics.outcomes import Scores, combination, seed_variances

PRIMARY = {"reference": "colocated", "against": ["positional_both", "random", "standard_lora"]}


def mean_squares(d: np.ndarray) -> dict[str, float]:
    """Mean squares of a two-way table by projection matrices, from the definition."""
    k, n = d.shape
    jk, jn = np.full((k, k), 1 / k), np.full((n, n), 1 / n)
    projections = {
        "item": np.kron(jk, np.eye(n) - jn),
        "seed": np.kron(np.eye(k) - jk, jn),
        "residual": np.kron(np.eye(k) - jk, np.eye(n) - jn),
    }
    y = d.ravel()
    return {name: y @ p @ y / max(1, round(np.trace(p))) for name, p in projections.items()}


def test_variance_is_that_of_the_mixed_model():
    """Crossed random items and seeds: the generalised least squares variance of the mean at the ANOVA estimates."""
    rng = np.random.default_rng(0)
    k, n = 4, 9
    d = rng.normal(size=n) + 2 * rng.normal(size=(k, 1)) + rng.normal(size=(k, n))
    ms = mean_squares(d)
    item, seed = (ms["item"] - ms["residual"]) / k, (ms["seed"] - ms["residual"]) / n
    v = item * np.kron(np.ones((k, k)), np.eye(n)) + seed * np.kron(np.eye(k), np.ones((n, n)))
    v += ms["residual"] * np.eye(k * n)
    one = np.ones(k * n)
    expected = 1 / (one @ np.linalg.solve(v, one))
    estimate = variance.combine([variance.crossed(d)], seed=ms["seed"] / (k * n), seed_df=k - 1)
    assert estimate.se**2 == pytest.approx(expected, rel=1e-9)
    assert estimate.difference == pytest.approx(d.mean())


def test_mean_squares_and_satterthwaite_by_hand():
    rng = np.random.default_rng(1)
    d = rng.normal(size=(3, 7))
    parts, ms = variance.crossed(d), mean_squares(d)
    assert parts.item * 21 == pytest.approx(ms["item"])
    assert parts.residual * 21 == pytest.approx(ms["residual"])
    seed = 5 * parts.residual
    estimate = variance.combine([parts], seed=seed, seed_df=10)
    assert estimate.se**2 == pytest.approx(parts.item + seed - parts.residual)
    expected = estimate.se**4 / (parts.item**2 / 6 + seed**2 / 10 + parts.residual**2 / 12)
    assert estimate.df == pytest.approx(expected)
    floor = variance.combine([parts], seed=0.5 * parts.residual, seed_df=10)
    assert floor.se**2 == pytest.approx(parts.item)
    assert floor.df == pytest.approx(6)


def simulated(
    rng, n: int, k: int, arms: int = 7, benchmarks: int = 1, cluster: int = 1, sd: float = 0.015
) -> list[Scores]:
    """Answers of arms with equal true accuracy: items of unlike difficulty, and seeds that move all benchmarks."""
    names, tables = [f"arm{i}" for i in range(arms)], []
    moved = {name: sd * rng.normal(size=(k, 1)) for name in names}
    for b in range(benchmarks):
        easy, groups = rng.beta(1.5, 1.5, size=n), np.arange(n) // cluster
        values = {}
        for name in names:
            liking = 0.1 * rng.normal(size=groups.max() + 1)[groups]
            values[name] = (rng.random((k, n)) < easy + liking + moved[name]).astype(float)
        values["base"] = (rng.random((1, n)) < easy).astype(float)
        seeds = {name: list(range(k)) for name in names} | {"base": [0]}
        tables.append(Scores(f"b{b}", "accuracy", groups if cluster > 1 else None, seeds, values))
    return tables


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({"n": 64, "k": 2}, "arm1"),
        ({"n": 2000, "k": 2}, "arm1"),
        ({"n": 64, "k": 2, "benchmarks": 4}, "arm1"),
        ({"n": 64, "k": 2, "cluster": 4}, "arm1"),
        ({"n": 500, "k": 2}, "base"),
        ({"n": 64, "k": 1}, "arm1"),
    ],
)
def test_intervals_cover(settings, other):
    rng, covered = np.random.default_rng(2), []
    for _ in range(300):
        found = combination(simulated(rng, **settings), {"arm0": 1.0, other: -1.0})
        low, high = found.estimate.interval()
        covered.append(low <= 0 <= high)
    assert np.mean(covered) >= 0.92


def test_items_alone_would_not_cover():
    """Without the seed part, 2,000 items with two seeds give intervals that are far too narrow."""
    rng, covered = np.random.default_rng(3), []
    for _ in range(200):
        found = combination(simulated(rng, 2000, 2, sd=0.03), {"arm0": 1.0, "arm1": -1.0})
        low, high = variance.combine([variance.crossed(found.d[0])]).interval()
        covered.append(low <= 0 <= high)
    assert np.mean(covered) <= 0.8


def test_base_has_no_seed_variance_of_its_own():
    tables = simulated(np.random.default_rng(4), 50, 3)
    pooled = np.mean([v for v, _ in seed_variances(tables, "base").values()])
    for other, factor in (("arm1", 2), ("base", 1)):
        found = combination(tables, {"arm0": 1.0, other: -1.0})
        d = tables[0].values["arm0"] - tables[0].values[other]
        parts = variance.crossed(np.broadcast_to(d, (3, 50)))
        seed = factor * pooled / 3
        assert found.estimate.se**2 == pytest.approx(parts.item + max(0, seed - parts.residual))
    assert any("base is one checkpoint" in note for note in found.notes)


def test_a_seed_that_moves_all_benchmarks_does_not_average_out():
    """The composite's seed part is the variance of the composite score, not the benchmarks' variances over B^2."""
    rng = np.random.default_rng(5)
    one, moved = simulated(rng, 400, 2)[0], 0.2 * rng.normal(size=(7, 2, 1))
    values = {name: v + (moved[i] if name != "base" else 0) for i, (name, v) in enumerate(one.values.items())}
    same = [Scores(f"b{b}", "score", None, one.seeds, values) for b in range(4)]
    single = combination(same[:1], {"arm0": 1.0, "arm1": -1.0}).estimate
    four = combination(same, {"arm0": 1.0, "arm1": -1.0}).estimate
    assert four.difference == pytest.approx(single.difference)
    assert four.se == pytest.approx(single.se, rel=0.02)


def test_random_layers_add_the_variance_of_drawing_them():
    rng = np.random.default_rng(6)
    table = simulated(rng, 300, 3)[0]
    values = dict(table.values, random=table.values["arm1"] + 0.2 * np.array([[-1], [0], [1]]))
    tables = [Scores("b", "score", None, table.seeds | {"random": [0, 1, 2]}, values)]
    weights = {"arm0": 1.0, "random": -1.0}
    plain, drawn = (combination(tables, weights, random_arms=arms).estimate for arms in ((), ("random",)))
    variances = seed_variances(tables, "base")
    pooled = np.mean([v for arm, (v, _) in variances.items() if arm != "random"])
    everything = np.mean([v for v, _ in variances.values()])
    parts = variance.crossed(values["arm0"] - values["random"])
    assert drawn.se**2 == pytest.approx(
        parts.item + max(0, 2 * pooled / 3 - parts.residual) + (variances["random"][0] - pooled) / 3
    )
    assert plain.se**2 == pytest.approx(parts.item + max(0, 2 * everything / 3 - parts.residual))
    assert drawn.df < plain.df


def test_clusters_are_the_cluster_robust_variance():
    """With one seed: C / (C - 1) times the sum of squared cluster totals of (D - mean), over N^2."""
    rng = np.random.default_rng(7)
    codes = np.repeat(np.arange(8), rng.integers(2, 9, size=8))
    d = rng.normal(size=(1, len(codes))) + rng.normal(size=8)[codes]
    totals = np.array([(d[0][codes == c] - d.mean()).sum() for c in range(8)])
    expected = 8 / 7 * (totals**2).sum() / len(codes) ** 2
    parts = variance.crossed(variance.cluster(d, codes))
    assert parts.item == pytest.approx(expected)
    assert parts.mean == pytest.approx(d.mean())


def test_mcnemar_and_holm_by_hand():
    d = np.array([1] * 9 + [-1] * 2 + [0] * 20)
    assert variance.mcnemar(d) == pytest.approx(2 * sum(stats.binom.pmf(i, 11, 0.5) for i in range(3)))
    assert variance.mcnemar(np.zeros(5)) == 1
    adjusted = variance.holm(np.array([0.04, 0.01, np.nan, 0.03, 0.5]))
    assert adjusted[[0, 1, 3, 4]] == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert np.isnan(adjusted[2])
    assert variance.holm(np.array([0.6, 0.6])).tolist() == [1.0, 1.0]


def test_bonett_price_by_hand():
    d = np.array([1] * 5 + [-1] * 2 + [0] * 13)
    expected = np.sqrt((6 / 22 + 3 / 22 - (3 / 22) ** 2) / 22)
    assert variance.bonett_price_se(d) == pytest.approx(expected)


# Tables


def items_of(arms, seeds, benchmarks, rng, gain=0.0) -> pd.DataFrame:
    """Made-up item tables; generative benchmarks have no margin."""
    frames = []
    for benchmark, n in benchmarks.items():
        easy = rng.normal(size=n)
        for arm in arms:
            for seed in [0] if arm == "base" else seeds:
                z = easy + 0.7 * rng.normal(size=n) + gain * (arm == "colocated")
                frame = pd.DataFrame(
                    {"item": [f"{benchmark}-{i}" for i in range(n)], "group": [i % 6 for i in range(n)]}
                )
                frame = frame.assign(arm=arm, seed=seed, benchmark=benchmark, correct=z > 0.3, gold_logprob=z - 3)
                frames.append(frame.assign(margin=None if "math" in benchmark else z))
    return pd.concat(frames, ignore_index=True)


ARMS = ["base", "colocated", "positional_both", "random", "standard_lora", "mid_block"]
BENCHMARKS = {"mini_arc": 36, "mini_mmlu": 30, "mini_math": 24}


@pytest.fixture(scope="module")
def evaluations():
    return items_of(ARMS, [0, 1], BENCHMARKS, np.random.default_rng(8))


@pytest.fixture(scope="module")
def heldout():
    rng, frames = np.random.default_rng(9), {}
    text = rng.normal(size=20)
    for arm in ARMS[1:]:
        for seed in (0, 1):
            for step, loss in ((0, 2.0), (24, 1.5)):
                values = loss + 0.2 * text + (step > 0) * 0.05 * rng.normal(size=20)
                frame = pd.DataFrame({"item": [f"t{i}" for i in range(20)], "group": "g", "loss": values, "step": step})
                frames.setdefault((arm, seed), []).extend(frame.assign(split=split) for split in ("validate", "test"))
    return contrasts.stack_heldout({key: pd.concat(parts) for key, parts in frames.items()})


@pytest.fixture(scope="module")
def table(evaluations, heldout):
    return contrasts.contrast(evaluations, heldout, PRIMARY, random_arms=["random"])


def pick(table, a, b, benchmark, outcome="accuracy"):
    rows = table.query("arm_a == @a and arm_b == @b and benchmark == @benchmark and outcome == @outcome")
    assert len(rows) == 1
    return rows.iloc[0]


def test_columns_and_rows(table):
    assert list(table.columns) == contrasts.COLUMNS
    pairs = {(row["arm_a"], row["arm_b"]) for row in table.to_dict("records")}
    assert {("colocated", arm) for arm in ARMS if arm != "colocated"} <= pairs
    assert {(arm, "base") for arm in ARMS if arm != "base"} <= pairs
    assert ("mid_block", "standard_lora") in pairs
    assert len(pairs) == 4 + 5 + 1
    assert set(table["outcome"]) == {"accuracy", "gold_logprob", "margin", "heldout_loss"}
    assert not table.duplicated(["arm_a", "arm_b", "benchmark", "outcome"]).any()
    assert table[["difference", "ci_low", "ci_high", "se"]].notna().all().all()


def test_difference_is_that_of_the_means(table, evaluations):
    means = evaluations.groupby(["benchmark", "arm"])["correct"].mean()
    for benchmark in BENCHMARKS:
        row = pick(table, "colocated", "standard_lora", benchmark)
        assert row["difference"] == pytest.approx(means[benchmark, "colocated"] - means[benchmark, "standard_lora"])
        assert (row["n_items"], row["n_seeds"]) == (BENCHMARKS[benchmark], 2)
    composite = pick(table, "colocated", "standard_lora", "composite")
    each = [pick(table, "colocated", "standard_lora", name)["difference"] for name in BENCHMARKS]
    assert composite["difference"] == pytest.approx(np.mean(each))
    assert composite["n_items"] == 90
    assert "composite of 3 mini benchmarks" in composite["note"]


def test_margin_and_domains_cover_the_benchmarks_that_have_them(table):
    assert "mini_math" not in set(table.query("outcome == 'margin'")["benchmark"])
    assert "2 mini benchmarks" in pick(table, "colocated", "base", "composite", "margin")["note"]
    assert pick(table, "colocated", "base", "composite_knowledge")["n_items"] == 66
    assert "composite_mathematics" not in set(table["benchmark"])


def test_primary_family_is_adjusted_and_the_rest_is_exploratory(table):
    primary = table[table["family"] == "primary"]
    assert set(primary["arm_b"]) == set(PRIMARY["against"])
    assert set(primary["benchmark"]) == {"composite"}
    assert primary["p_adjusted"].to_numpy() == pytest.approx(variance.holm(primary["p"].to_numpy()))
    rest = table[table["family"] != "primary"]
    assert set(rest["family"]) == {"exploratory"}
    assert rest["p_adjusted"].isna().all()


def test_heldout_loss_is_quoted_on_test_and_base_is_step_zero(table, heldout):
    row = pick(table, "colocated", "base", "heldout", "heldout_loss")
    assert row["difference"] == pytest.approx(-0.5, abs=0.05)
    assert row["n_items"] == 20
    assert set(heldout.query("arm == 'base'")["seed"]) == {0}
    assert heldout.query("arm == 'base' and split == 'test'")["loss"].mean() == pytest.approx(2.0, abs=0.15)


def test_groups_are_clusters_where_there_are_enough(table, evaluations):
    assert pick(table, "colocated", "base", "mini_arc")["n_units"] == 6
    few = evaluations.assign(group=evaluations["group"] % 3)
    row = pick(contrasts.contrast(few, None, PRIMARY), "colocated", "base", "mini_arc")
    assert row["n_units"] == 36
    assert "only 3 groups" in row["note"]


def test_one_seed_speaks_of_two_checkpoints():
    """The small study of the tests: one seed, base and three arms, two benchmarks of eight items."""
    small = items_of(
        ["base", "colocated", "positional_both", "mid_block"],
        [0],
        {"mini_arc": 8, "mini_math": 8},
        np.random.default_rng(1),
    )
    table = contrasts.contrast(small.assign(group=None), None, PRIMARY)
    row = pick(table, "colocated", "positional_both", "mini_arc")
    wide = small[small["benchmark"] == "mini_arc"].pivot(index="item", columns="arm", values="correct").astype(float)
    d = (wide["colocated"] - wide["positional_both"]).to_numpy()
    assert row["p"] == pytest.approx(variance.mcnemar(d))
    assert row["se"] == pytest.approx(variance.bonett_price_se(d))
    assert "these two checkpoints" in row["note"]
    assert table["note"].str.contains("these two checkpoints").all()
    assert (table["family"] == "primary").sum() == 1


def test_two_arms_that_answer_alike_keep_an_interval():
    same = items_of(["base", "colocated", "positional_both"], [0, 1], {"mini_arc": 8}, np.random.default_rng(2))
    same = same.assign(correct=True)
    row = pick(contrasts.contrast(same, None, PRIMARY), "colocated", "positional_both", "mini_arc")
    assert row["difference"] == 0
    assert row["ci_low"] < -0.1 < 0.1 < row["ci_high"]


def test_a_benchmark_that_one_arm_lacks_is_left_out_and_named(evaluations):
    partial = evaluations.query("not (arm == 'mid_block' and benchmark == 'mini_math')")
    table = contrasts.contrast(partial, None, PRIMARY)
    assert table.query("arm_a == 'mid_block' and benchmark == 'mini_math'").empty
    row = pick(table, "mid_block", "base", "composite")
    assert row["n_items"] == 66
    assert "not run in both: mini_math" in row["note"]
    assert pick(table, "colocated", "base", "composite")["n_items"] == 90


def test_synergy_is_the_difference_of_differences():
    rng = np.random.default_rng(10)
    full = items_of(["base", "colocated", "lora_sensitive", "garfa_sensitive"], [0, 1], {"mini_arc": 40}, rng)
    row = pick(
        contrasts.contrast(full, None, PRIMARY), "colocated - lora_sensitive", "garfa_sensitive - base", "composite"
    )
    m = full.groupby("arm")["correct"].mean()
    assert row["difference"] == pytest.approx(m["colocated"] - m["lora_sensitive"] - m["garfa_sensitive"] + m["base"])


def test_an_effect_is_found():
    table = contrasts.contrast(
        items_of(ARMS, [0, 1], {"mini_arc": 200}, np.random.default_rng(3), gain=1.0), None, PRIMARY
    )
    assert (table.loc[table["family"] == "primary", "p_adjusted"] < 0.01).all()


def test_contrasts_across_dtypes_and_devices_are_refused(evaluations):
    places = evaluations[["arm", "seed", "benchmark"]].drop_duplicates().assign(dtype="bfloat16", device="cuda:0")
    mixed = places.assign(device=np.where(places["arm"] == "base", "cuda:1", "cuda:0"))
    assert len(contrasts.contrast(evaluations, None, PRIMARY, environments=mixed))
    for column, other in (("dtype", "float32"), ("device", "cpu")):
        bad = places.assign(**{column: places[column].where(places["arm"] != "base", other)})
        with pytest.raises(InputError, match=f"different {column}.*{other} in base"):
            contrasts.contrast(evaluations, None, PRIMARY, environments=bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="correct"), "columns \\['correct'\\] are missing"),
        (lambda t: pd.concat([t, t.head(1)]), "occurs twice"),
        (lambda t: t.assign(gold_logprob=-np.inf), "gold_logprob of item .* is -inf"),
    ],
)
def test_bad_tables_are_refused(evaluations, change, message):
    with pytest.raises(InputError, match=message):
        contrasts.contrast(change(evaluations), None, PRIMARY)


def test_rank_p():
    assert contrasts.rank_p(1.0, np.linspace(1.1, 2, 19)) == pytest.approx(0.05)
    assert contrasts.rank_p(1.5, [1.0, 2.0, 3.0]) == pytest.approx(0.5)


# Power


def test_planned_power_gives_the_stated_points():
    published = {"humaneval_plus": 164, "gpqa": 448, "arc_challenge": 1172, "gsm8k": 1319, "mmlu": 14042}
    found = power.planned(published, 2).set_index("benchmark")["mde"] * 100
    expected = {"humaneval_plus": 9.5, "gpqa": 6.6, "arc_challenge": 5.3, "gsm8k": 5.2, "mmlu": 4.3}
    assert {name: round(found[name], 1) for name in expected} == expected
    minis = power.planned({"code": 32} | {f"mini{i}": 64 for i in range(5)}, 2).set_index("benchmark")["mde"] * 100
    assert [round(minis[name]) for name in ("code", "mini0", "composite")] == [20, 14, 7]


def test_items_needed_are_planned_power_backwards():
    for effect, k in ((0.04, 5), (0.08, 2)):
        n = power.items_needed(effect, k)
        assert (
            power.planned({"b": int(n)}, k)["mde"].iloc[0]
            <= effect
            < power.planned({"b": int(n) - 1}, k)["mde"].iloc[0]
        )
    assert power.items_needed(0.04, 1) == float("inf")  # MDE of two seeds of sd 1.5 points alone exceeds 4


def test_items_and_seeds_that_each_claim_needs():
    claims = pd.DataFrame({"claim": ["a", "b", "c"], "unit": ["points", "points", "CKA"], "threshold": [4.0, 0.0, 0.1]})
    table = power.needed(claims.assign(margin=2.0), seeds=(2, 20))
    assert table[["claim", "effect", "n_seeds"]].to_numpy().tolist() == [
        ["a", 4, 2],
        ["a", 4, 20],
        ["b", 2, 2],
        ["b", 2, 20],
    ]
    assert np.isinf(table["n_items"].iloc[0])
    assert table["note"].iloc[0].startswith("no number of items is enough")
    assert table["n_items"].iloc[1] == power.items_needed(0.04, 20)


def test_power_of_a_contrast_is_that_of_the_test():
    """At the smallest detectable difference, a z test with that standard error rejects 80 % of the time."""
    assert 1 - stats.norm.cdf(1.959964 - power.FACTOR) == pytest.approx(0.8, abs=1e-4)


def test_power_table(table):
    found = power.power(table)
    assert list(found.columns) == power.COLUMNS
    assert len(found) == len(table)
    assert found["mde"].to_numpy() == pytest.approx(2.8016 * table["se"].to_numpy(), rel=1e-4)


def test_words_for_benchmarks():
    assert count_in_words(["mini_arc", "mini_math"]) == "2 mini benchmarks"
    assert count_in_words(["gsm8k"]) == "1 benchmark"
    assert count_in_words(["gsm8k", "mini_arc"]) == "2 benchmarks, 1 of them mini"
    assert [domain(name) for name in ("mini_mgsm", "arc_challenge", "humaneval_plus", "ifeval")] == [
        "mathematics",
        "knowledge",
        "code",
        None,
    ]


def test_pairs_asked_for_by_name_are_found_under_the_name_that_ran():
    arms = ["base", "colocated", "one", "two", "garfa_sensitive"]
    items = items_of(arms, [0, 1], {"mini_arc": 30}, np.random.default_rng(0))
    names = {"mid_block": "one", "standard_lora": "two", "lora_sensitive": "two", "segment_2": "two"}
    table = contrasts.contrast(items, None, {"reference": "colocated", "against": []}, aliases=names)
    pairs = set(zip(table["arm_a"], table["arm_b"], strict=True))
    assert ("one", "two") in pairs
    assert ("two", "two") not in pairs
    assert ("colocated - lora_sensitive", "garfa_sensitive - base") in pairs
