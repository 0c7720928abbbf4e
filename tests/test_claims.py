"""Verdicts: the rules as a table with their boundaries, their error rates by simulation, and the published numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colocate.errors import InputError
from colocate.statistics import claims
from colocate.statistics.claims import Measurement, Part
from colocate.statistics.outcomes import combination

PUBLISHED = Path(__file__).parents[1] / "data" / "published"
CSV = PUBLISHED / "claims.csv"
OPEN = {gate: "" for gate in ("reliability", "reliability_depth", "overlap", "block", "chance")}


def part(low, high, low90=None, high90=None, label="x", df=float("inf")) -> Part:
    middle = (low + high) / 2
    half = (high - low) / 2 * 1.645 / 1.96
    return Part(
        label,
        middle,
        low,
        high,
        middle - half if low90 is None else low90,
        middle + half if high90 is None else high90,
        df,
    )


# The rules


@pytest.mark.parametrize(
    ("low", "high", "low90", "high90", "expected"),
    [
        (1, 5, 2, 4.5, ("reproduced", "")),
        (0.01, 4, 1, 3.5, ("reproduced", "")),  # high exactly at a
        (0, 5, 1, 4.5, ("inconclusive", "")),  # low exactly 0
        (-1, 4, 0, 3, ("inconclusive", "")),
        (-1, 3.99, 0.5, 3, ("contradicted", "")),
        (-6, -0.01, -5, -1, ("contradicted", "reversed")),
        (-1, 0, -0.9, -0.1, ("contradicted", "absent")),  # high exactly 0 is not reversed
        (-3, 3, -2, 2, ("contradicted", "absent")),  # 90 % interval exactly [-m, m]
        (-3, 3, -2.01, 2, ("contradicted", "")),
        (0.5, 3.5, 1, 3, ("contradicted", "smaller")),
        (0.5, 1.9, 0.6, 1.8, ("contradicted", "absent")),
        (-1.5, -0.5, -1.4, -0.6, ("contradicted", "reversed")),
        (-9, 9, -8, 8, ("inconclusive", "")),
    ],
)
def test_rule_of_size_with_threshold_4_and_margin_2(low, high, low90, high90, expected):
    assert claims.rule_of_size(part(low, high, low90, high90), 4, 2) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 2, "reproduced"), (-1, 2, "inconclusive"), (-2, 0, "inconclusive"), (-2, -0.1, "contradicted")],
)
def test_rule_of_size_with_threshold_0(low, high, expected):
    assert claims.rule_of_size(part(low, high), 0, 0.01)[0] == expected


@pytest.mark.parametrize(
    ("low", "high", "low90", "high90", "expected"),
    [
        (-4.5, 3, -4, 2, "reproduced"),
        (-4.5, 3, -4.01, 2, "inconclusive"),
        (4, 9, 4.5, 8, "inconclusive"),
        (4.01, 9, 4.5, 8, "contradicted"),
        (-9, -4.01, -8, -5, "contradicted"),
    ],
)
def test_rule_of_equivalence(low, high, low90, high90, expected):
    assert claims.rule_of_equivalence(part(low, high, low90, high90), 4)[0] == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 9, ("reproduced", "")),
        (0, 9, ("inconclusive", "")),
        (-9, 0, ("inconclusive", "")),
        (-9, -0.01, ("contradicted", "reversed")),
    ],
)
def test_rule_of_direction(low, high, expected):
    assert claims.rule_of_direction(part(low, high)) == expected


def test_an_exact_value_within_the_margin_is_absent():
    found = [claims.rule_of_size(Part.exact("x", value), 0, 0.02) for value in (0.0, 0.02, 0.03, -0.03)]
    expected = [
        ("contradicted", "absent"),
        ("contradicted", "absent"),
        ("reproduced", ""),
        ("contradicted", "reversed"),
    ]
    assert found == expected


def rates(theta: float, df: int, a: float, replicates: int = 20000) -> dict[str, float]:
    """Share of verdicts when an estimate is normal about theta with an estimated standard error of 2 on average."""
    rng = np.random.default_rng(0)
    estimates = theta + 2 * rng.normal(size=replicates)
    errors = 2 * np.sqrt(rng.chisquare(df, size=replicates) / df)
    halves = [stats.t.ppf(0.5 + level / 2, df) * errors for level in (0.95, 0.9)]
    bounds = np.stack(
        [estimates - halves[0], estimates + halves[0], estimates - halves[1], estimates + halves[1]], axis=1
    )
    found = [claims.rule_of_size(Part("x", e, *b), a, 2)[0] for e, b in zip(estimates, bounds, strict=True)]
    return {verdict: found.count(verdict) / replicates for verdict in ("reproduced", "contradicted")}


@pytest.mark.parametrize("df", [4, 60])
@pytest.mark.parametrize("a", [0, 4, 9])
def test_error_rates_of_the_rule(df, a):
    tolerance = 3 * np.sqrt(0.025 * 0.975 / 20000)
    assert rates(0, df, a)["reproduced"] <= 0.025 + tolerance
    assert rates(-1, df, a)["reproduced"] <= 0.025
    assert rates(a, df, a)["contradicted"] <= 0.025 + tolerance
    assert rates(a + 1, df, a)["contradicted"] <= 0.025


CLAIM = {
    "rule": "size",
    "threshold": 4,
    "margin": 2,
    "unit": "points",
    "gates": "",
    "p_max": float("nan"),
    "needs": "arms",
}


def test_error_rates_of_a_conjunction():
    """18 parts: none true but one is not reproduced; all exactly at the threshold are seldom contradicted (Holm)."""
    rng, counts = np.random.default_rng(1), {"reproduced": 0, "contradicted": 0}
    claim, replicates = CLAIM | {"conjunction": "yes"}, 2000
    for _ in range(replicates):
        for thetas, wrong in ((np.array([0] + [30] * 17), "reproduced"), (np.full(18, 4), "contradicted")):
            centres = thetas + 3 * rng.normal(size=18)
            parts = tuple(part(c - 1.96 * 3, c + 1.96 * 3) for c in centres)
            counts[wrong] += claims.decide(claim, Measurement(parts), OPEN)[0] == wrong
    limit = 0.025 + 3 * np.sqrt(0.025 * 0.975 / replicates)
    assert counts["reproduced"] / replicates <= limit
    assert counts["contradicted"] / replicates <= limit


def test_error_rates_on_simulated_studies():
    """Two seeds, 100 items, seven arms through the contrasts themselves: theta = 0, and theta = a = 4 points."""
    from test_statistics_contrasts import simulated

    rng, found = np.random.default_rng(2), []
    for _ in range(600):
        estimate = combination(simulated(rng, 100, 2), {"arm0": 1.0, "arm1": -1.0}).estimate
        one = Part(
            "x", 100 * estimate.difference, *(100 * b for level in (0.95, 0.9) for b in estimate.interval(level))
        )
        shifted = Part("x", one.estimate + 4, *(bound + 4 for bound in one.bounds))
        found.append(
            (claims.rule_of_size(one, 4, 4)[0] == "reproduced", claims.rule_of_size(shifted, 4, 4)[0] == "contradicted")
        )
    limit = 0.025 + 3 * np.sqrt(0.025 * 0.975 / 600)
    assert (np.mean(found, axis=0) <= limit).all()


# Decisions


def test_conjunction_needs_every_part():
    claim = CLAIM | {"conjunction": "yes"}
    good, open_, bad = part(2, 9, label="good"), part(-3, 9, label="open"), part(-9, -5, label="bad")
    assert claims.decide(claim, Measurement((good, good)), OPEN)[0] == "reproduced"
    assert claims.decide(claim, Measurement((good, open_)), OPEN)[0] == "inconclusive"
    verdict, label, why = claims.decide(claim, Measurement((good, bad, open_)), OPEN)
    assert (verdict, label) == ("contradicted", "reversed")
    assert "bad lies below 4 points at the Holm level; 1 of 3 parts hold" in why
    verdict, _, why = claims.decide(claim, Measurement((good,), absent=("math was not run",)), OPEN)
    assert verdict == "inconclusive"
    assert "1 could not be tested (math was not run)" in why


def test_conjunction_contradicts_at_the_holm_level_only():
    """One part whose 95 % interval ends just below a is not enough among ten."""
    claim = CLAIM | {"conjunction": "yes"}
    almost = part(-2, 3.9)
    assert claims.decide(claim | {"conjunction": "no"}, Measurement((almost,)), OPEN)[0] == "contradicted"
    assert claims.decide(claim, Measurement((almost, *[part(1, 9)] * 9)), OPEN)[0] == "inconclusive"
    z = stats.norm.ppf(1 - 0.025 / 10) / stats.norm.ppf(0.975)
    assert almost.upper(1 - 0.05 / 10) == pytest.approx(0.95 + 2.95 * z)


@pytest.mark.parametrize(
    ("gates", "measurement", "closed", "why"),
    [
        ("reliability", {}, {"reliability": "reliability 0.61"}, "reliability 0.61"),
        ("overlap;block", {}, {"block": "profile and depth not separable"}, "profile and depth not separable"),
        ("chance;seeds:2", {"seeds": 1}, {}, "seeds: 1, needed: at least 2"),
        ("seeds:6", {"seeds": 2}, {}, "seeds: 2, needed: at least 6"),
        ("draws:19", {"seeds": 2, "draws": 2}, {}, "draws: 2, needed: at least 19"),
        ("nobody_looked", {}, {}, "nobody_looked: could not be checked"),
    ],
)
def test_a_closed_gate_leaves_a_claim_untested_and_is_named(gates, measurement, closed, why):
    claim = CLAIM | {"conjunction": "no", "gates": gates}
    verdict, _, reason = claims.decide(claim, Measurement((part(2, 9),), **measurement), OPEN | closed)
    assert verdict == "not_tested"
    assert why in reason


def test_a_p_value_is_asked_for_where_the_claim_says_so():
    claim = CLAIM | {"conjunction": "no", "p_max": 0.05}
    found = [claims.decide(claim, Measurement((part(2, 9),), p=p), OPEN)[0] for p in (0.05, 0.051, float("nan"), None)]
    assert found == ["reproduced", "inconclusive", "inconclusive", "inconclusive"]
    assert claims.decide(claim, Measurement((part(-9, -5),), p=0.5), OPEN)[0] == "contradicted"


def test_no_interval_or_no_evidence_is_not_tested():
    claim = CLAIM | {"conjunction": "no"}
    nan = float("nan")
    assert "no interval of x" in claims.decide(claim, Measurement((Part("x", 1, nan, nan, nan, nan),)), OPEN)[2]
    assert claims.decide(claim, Measurement(), OPEN) == ("not_tested", "", "needs arms; this study has none")
    assert claims.decide(claim, Measurement(missing="no items"), OPEN) == ("not_tested", "", "no items")


# The file


def test_claims_file_is_sound():
    table = claims.read_claims(CSV)
    assert len(table) == 26
    assert set(table["known"].str.split("[,:]").str[0]) <= {"stated", "second-hand", "derived", "unknown"}
    sized = table[table["rule"].isin(claims.SIZED)]
    assert (sized["threshold"] >= 0).all()
    assert (sized["margin"] > 0).all()
    gates = {gate.split(":")[0] for cell in table["gates"] for gate in cell.split(";") if gate}
    assert gates <= set(OPEN) | {"seeds", "draws"}
    for column in ("text", "source", "estimand", "published", "evidence", "needs"):
        assert (table[column].str.len() > 0).all(), column
    assert table["evidence"].is_unique


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",0.5,0.2,size", ",half,0.2,size", "'anti-localization', threshold: found 'half'"),
        (",0.5,0.2,size", ",0.5,0.2,sighs", "rule: found 'sighs'; allowed: size"),
        (",0.5,0.2,size", ",,0.2,size", "threshold: found blank"),
        ("size,profiles,no", "size,profiles,maybe", "conjunction: found 'maybe'"),
        ("anti-localization beyond depth,", "anti-localization,", "claim: found 'anti-localization'"),
        ("claim,text", "claim,words", "columns \\['text'\\] are missing"),
    ],
)
def test_a_wrong_file_is_refused_with_its_cell(tmp_path, old, new, message):
    text = CSV.read_text()
    assert old in text
    (tmp_path / "claims.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        claims.read_claims(tmp_path / "claims.csv")


def test_published_numbers_add_up():
    """Derived entries follow from the stated ones; unknown entries hold no number."""
    numbers = pd.read_csv(PUBLISHED / "numbers.csv", keep_default_na=False)
    unknown = numbers[numbers["known"] == "unknown"]
    assert len(unknown) >= 10
    assert set(unknown["value"]) == {"unknown"}
    assert set(numbers["known"].str.split(",").str[0]) == {"stated", "second-hand", "derived", "unknown"}
    assert (numbers["source"].str.len() > 0).all()
    score = numbers[numbers["quantity"] == "accuracy"].set_index(["model", "setting"])["value"]
    for key, right, n in (
        (("Llama 3.1 8B", "co-located, HumanEval+"), 110, 164),
        (("Claude 3.5 Haiku", "HumanEval+"), 112, 164),
        (("Llama 3.1 8B", "co-located, GPQA"), 156, 448),
        (("Llama 3.1 8B", "co-located, ARC"), 659, 1172),
    ):
        assert float(score[key]) == pytest.approx(100 * right / n, abs=0.05)
    r = float(numbers.set_index("quantity")["value"]["Spearman correlation of the profiles"])
    assert 2 * stats.t.sf(abs(r) * np.sqrt(30 / (1 - r * r)), 30) == pytest.approx(1.66e-6, rel=0.01)
