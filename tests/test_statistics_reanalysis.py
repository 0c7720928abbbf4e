"""What print alone can show: the notes' numbers, and each formula against an independent computation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colocate.errors import InputError
from colocate.statistics import nulls, reanalysis

NUMBERS = Path(__file__).parents[1] / "data/published/numbers.csv"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return reanalysis.reanalyse(NUMBERS)


def rows(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    found = table[table["quantity"].str.startswith(quantity)]
    assert len(found)
    return found


def test_every_printed_score_has_its_count_and_wilson_interval(table):
    assert list(table.columns) == reanalysis.COLUMNS
    scores = rows(table, "accuracy")
    counted = scores.dropna(subset=["count"])
    found = {(printed, int(count), int(n)) for printed, count, n in counted[["printed", "count", "n"]].to_numpy()}
    assert found == {
        ("67.1", 110, 164), ("68.3", 112, 164), ("68.9", 113, 164), ("34.82", 156, 448), ("56.23", 659, 1172),
        ("56.23", 1336, 2376), ("43.6", 109, 250), ("43.6", 1090, 2500), ("43.6", 1199, 2750),
    }  # fmt: skip
    for row in counted.to_dict("records"):
        interval = stats.binomtest(int(row["count"]), int(row["n"])).proportion_ci(method="wilson")
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-4)
    assert scores.loc[scores["printed"] == "28.95", "says"].iloc[0].startswith("no whole number of items prints so")


def test_counts_are_exactly_those_that_print_so():
    for printed, n in (("67.1", 164), ("43.6", 2750), ("28.95", 5000), ("34.82", 198)):
        expected = {c for c in range(n + 1) if f"{100 * c / n:.{len(printed.split('.')[1])}f}" == printed}
        assert set(reanalysis.counts(printed, n)) == expected


def test_headline_is_within_its_error(table):
    row = rows(table, "HumanEval+, co-located less Claude").iloc[0]
    assert row["comparison"] == "110 against 112 of 164"
    assert row["estimate"] == pytest.approx(-1.2, abs=0.05)
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(10.1, abs=0.05)
    assert rows(table, "smallest gain").iloc[0]["says"].startswith("6.6 of 164 items")


def test_four_gains_of_mid_block(table):
    found = table[table["quantity"].str.contains("less all layers")]
    assert (found["n"] == 200).all()
    half = (found["ci_high"] - found["ci_low"]) / 2
    assert found["estimate"].round(1).tolist() == [2.0, 9.5, 3.0, 3.0]
    assert half.round(1).tolist() == [7.8, 9.2, 8.8, 9.0]
    assert [("within" in says) for says in found["says"]] == [True, False, True, True]
    gains = [float(word) for says in found["says"] for word in says.split("gains ")[1].split(" to ")]
    assert (min(gains), max(gains)) == (2.6, 4.3)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_best_of_six_masks_by_simulation(rho):
    """Six arms of one accuracy; each takes a common answer with probability sqrt(rho), so two do with rho."""
    rng, p, n = np.random.default_rng(0), 0.3, 200
    common, own = rng.random((4000, 1, n)) < p, rng.random((4000, 6, n)) < p
    answers = np.where(rng.random((4000, 6, n)) < np.sqrt(rho), common, own)
    gain = answers.mean(axis=2).max(axis=1).mean() - p
    assert reanalysis.best_of(6, p, n, rho) == pytest.approx(gain, abs=0.001)


def test_p_of_the_correlation_as_printed_and_as_valid(table):
    assert rows(table, "p of the correlation, as printed")["estimate"].iloc[0] == pytest.approx(1.66e-6, rel=0.01)
    row = rows(table, "p of the correlation, as valid").iloc[0]
    assert row["ci_low"] == pytest.approx(0.03, abs=0.01)
    assert row["ci_high"] == pytest.approx(0.19, abs=0.035)
    notes = {"AR(1) 0.9": 0.03, "smooth, length 3": 0.04, "smooth, length 6": 0.15, "random walk": 0.11}
    for name, share in notes.items():  # each from 1,000 replicates
        assert nulls.share_as_large(nulls.NULLS[name], 0.735, 32) == pytest.approx(share, abs=0.04)
    assert nulls.share_as_large(nulls.white, 0.735, 32) < 1e-3


def test_overlap_of_two_blocks(table):
    row = rows(table, "no common layer").iloc[0]
    assert row["ci_low"] == pytest.approx(stats.hypergeom(32, 10, 9).pmf(0))
    assert (round(row["ci_low"], 3), round(row["ci_high"], 2)) == (0.018, 0.38)
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 24, 20000), rng.integers(0, 23, 20000)
    assert row["estimate"] == pytest.approx(((a + 9 <= b) | (b + 10 <= a)).mean(), abs=0.012)


def test_cka_of_independent_states(table):
    assert rows(table, "linear CKA")["estimate"].round(3).tolist() == [0.953, 0.953]
    rng = np.random.default_rng(2)
    x, y = (rng.normal(size=(50, 400)) for _ in range(2))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    found = np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    assert found == pytest.approx(reanalysis.independent_cka(50, 400), abs=0.01)


def test_ten_per_cent_is_no_gain_in_points(table):
    says = rows(table, "gain on GSM8K").iloc[0]["says"]
    assert "as points it fits no printed pair" in says
    assert "OLMo2-32B" in says


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("study,quantity", "paper,quantity", "columns \\['study'\\] are missing"),
        (",-0.735,", ",minus,", "found 'minus'; a number"),
        ("rao2026,layers,Llama 3.1 8B,,32", "rao2026,depth,Llama 3.1 8B,,32", "layers: found 0 rows; needed: one"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, old, new, message):
    text = NUMBERS.read_text()
    assert old in text
    path = tmp_path / "numbers.csv"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        reanalysis.reanalyse(path)
