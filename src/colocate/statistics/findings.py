"""The results as sentences: each with its number, n, seeds and interval, and the word inconclusive where that is what
they are.
"""

import math
from collections.abc import Mapping

import pandas as pd

from colocate.statistics.power import FACTOR


def findings(
    correlations: pd.DataFrame, contrasts: pd.DataFrame, claims: pd.DataFrame, recommendation: dict
) -> list[str]:
    """Three sentences or short paragraphs: the question, the arms, the advice. The tables are those of the same names;
    any may be empty.
    """
    primary = correlations[correlations["primary"].astype(bool)] if len(correlations) else correlations
    question = answer(primary.iloc[0]) if len(primary) else "The primary pair of profiles has not been correlated."
    return [question + _verdicts(claims), arms(contrasts), recommendation.get("text") or "Nothing was recommended."]


def answer(row: Mapping) -> str:
    """One row of correlations.csv as the answer to the question, with its uncertainty."""
    r_s, partial = (_number(row[key], "+.2f") for key in ("r_s", "partial_r_s"))
    p = _number(row["p_depth"], ".3g")
    numbers = f"r_s = {r_s}, {_interval(row)}; given depth {partial}, p = {p}"
    return (
        f"{_conclusion(row)} ({numbers}). "
        f"Measured by {row['sensitivity']} and {row['rope']} over {row['n_layers']} layers; "
        f"their top {row['overlap_k']:.0f} layers share {row['overlap']:.0f}. "
        "One model: this says nothing about others."
    )


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else "unknown"


def _interval(row: Mapping) -> str:
    if not math.isfinite(row["r_dis"]):
        return "no interval, since a profile has no items"
    items = f"over {row['n_items_x']:.0f} and {row['n_items_y']:.0f} items"
    return (
        f"without item noise {row['r_dis']:+.2f}, 95 % interval {row['ci_low']:+.2f} to {row['ci_high']:+.2f} {items}"
    )


def _conclusion(row: Mapping) -> str:
    if not all(math.isfinite(row[key]) for key in ("r_s", "partial_r_s", "p_depth", "p_raw")):
        return "Not tested: the primary pair of profiles has no correlation, or no p value"
    if row["p_depth"] <= 0.05:
        way = "have less" if row["partial_r_s"] < 0 else "also have more"
        return f"Beyond what depth explains, layers that are more sensitive {way} RoPE influence"
    if row["p_raw"] <= 0.05:
        way = "opposite ways" if row["r_s"] < 0 else "the same way"
        return f"Inconclusive: the two profiles go {way}, but beyond their trends in depth no more than by chance"
    return "Inconclusive: two unrelated profiles as smooth as these agree or disagree this much by chance"


def _smallest(se: pd.Series) -> str:
    """The smallest differences that contrasts with these standard errors could show, in points: one or a range."""
    low, high = (f"{100 * FACTOR * value:.1f}" for value in (se.min(), se.max()))
    return f"{low} points" if low == high else f"{low} to {high} points, depending on the arm,"


def _verdicts(claims: pd.DataFrame) -> str:
    """Verdicts on anti-localization and on what is left beyond depth: direct if it could be tested, else as here."""
    if claims.empty:
        return ""
    said = []
    for claim in ("anti-localization", "anti-localization beyond depth"):
        rows = claims[(claims["claim"] == claim) & (claims["verdict"] != "not_tested")]
        said += [f"{claim}: {str(verdict).replace('_', ' ')}" for verdict in rows["verdict"].head(1)]
    return (
        f" Verdict on the published claims of {', '.join(said)}."
        if said
        else " The published claims could not be tested."
    )


def arms(contrasts: pd.DataFrame) -> str:
    """The primary family in words: the reference arm against the others on the composite."""
    rows = contrasts[contrasts["family"] == "primary"] if len(contrasts) else contrasts
    if rows.empty:
        return "The reference arm was not compared with the arms of the primary family."
    untested = rows.loc[rows["p_adjusted"].isna(), "arm_b"]
    rows = rows[rows["p_adjusted"].notna()]
    if rows.empty:
        return f"Not tested: no contrast of the reference arm with {', '.join(untested)} has a p value."
    reference, n_items, k = rows["arm_a"].iloc[0], int(rows["n_items"].max()), int(rows["n_seeds"].min())
    what = str(rows["note"].iloc[0]).split(";")[0]
    seeds = "1 seed, so this speaks of these checkpoints only" if k == 1 else f"{k} seeds"
    better = rows[(rows["p_adjusted"] <= 0.05) & (rows["difference"] > 0)]
    worse = rows[(rows["p_adjusted"] <= 0.05) & (rows["difference"] < 0)]
    each = ", ".join(
        f"{row['arm_b']} {100 * row['difference']:+.1f} [{100 * row['ci_low']:+.1f}, {100 * row['ci_high']:+.1f}]"
        for row in rows.to_dict("records")
    )
    if better.empty and worse.empty:
        lead = (
            f"Inconclusive: {reference} is neither better nor worse than any of {len(rows)} other arms beyond chance "
            f"(smallest p after Holm {rows['p_adjusted'].min():.2g}; with 80 % power only differences of at "
            f"least {_smallest(rows['se'])} would be seen)"
        )
    else:
        parts = [f"better than {', '.join(better['arm_b'])}"] * (len(better) > 0)
        parts += [f"worse than {', '.join(worse['arm_b'])}"] * (len(worse) > 0)
        lead = f"{reference} is {' and '.join(parts)}, of {len(rows)} other arms, after Holm's correction"
    left = f" Not tested: {', '.join(untested)}." if len(untested) else ""
    return f"{lead}. {reference} minus the other in points of accuracy, {what}, {n_items} items, {seeds}: {each}.{left}"
