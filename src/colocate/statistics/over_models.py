"""Evidence on the claims that speak of several models, or of the study as a whole: across_claims.csv.

    gqa_families    random-effects mean of -r_dis over families with grouped-query attention (across.py), at least six
    gqa_minus_mha   that mean less the one over families with multi-head attention, on the scale of r; interval by MOVER
                    (Zou 2007, Psychol. Methods 12): the squared distances to the ends of the two intervals add up
    sizes           the rows of Zhao et al. (SIZE_CLAIMS) of each model of a family that has several sizes: one part
                    each
    cost            100 dollars less the study's cost; the claim does not say of what, so the interval reaches from
                    everything (low) to the training alone (high). No sampling error

Models whose profiles are not reliable (gates.py) are left out, and named.
"""

import numpy as np
import pandas as pd

from colocate.statistics.across import by_family, family_of, random_effects
from colocate.statistics.claims import Measurement, Part, outside, read_claims
from colocate.statistics.evidence import OF_THE_STUDY
from colocate.statistics.gates import LEAST_RELIABILITY

FEWEST_FAMILIES = 6
SIZE_CLAIMS = ("mid_block", "last_segment", "middle_stable")
DOLLARS = 100.0
TRAINING = "train_arm"


def evidence(
    table: pd.DataFrame,
    correlations: dict[str, pd.DataFrame],
    verdicts: dict[str, pd.DataFrame],
    compute: pd.DataFrame,
    claims_csv,
    scope: dict,
) -> dict:
    """{"scope", "gates", "measurements"} for `colocate.statistics.claims.judge`, keys OF_THE_STUDY.

    table           across_models.csv: its rows of single models
    correlations    model to its correlations.csv
    verdicts        model to its claims.csv
    compute         rule,cost,currency: the bill
    """
    claims = read_claims(claims_csv).set_index("evidence")
    low = {name: _reliability(rows) for name, rows in correlations.items()}
    poor = [name for name, value in low.items() if not value >= LEAST_RELIABILITY]
    families = by_family(table[table["model"].isin(low) & ~table["model"].isin(poor)])
    left_out = f"; left out, profiles not reliable: {', '.join(poor)}" if poor else ""
    found = {
        "gqa_families": gqa_families(families, left_out),
        "gqa_minus_mha": gqa_minus_mha(families, left_out),
        "sizes": sizes(table, verdicts, {key: claims.loc[key, "claim"] for key in SIZE_CLAIMS}),
        "cost": cost(compute, outside(claims.loc["cost"].to_dict() | {"claim": "cost"}, scope)),
    }
    return {"scope": scope, "gates": {"reliability": ""}, "measurements": {key: found[key] for key in OF_THE_STUDY}}


def _reliability(correlations: pd.DataFrame) -> float:
    """The lesser reliability of the primary pair, NaN where it is not known."""
    rows = correlations[correlations["primary"].astype(bool)]
    return (
        float(rows[["reliability_x", "reliability_y"]].min(axis=1, skipna=False).iloc[0]) if len(rows) else float("nan")
    )


def _pooled(families: pd.DataFrame, level: float = 0.95) -> tuple[float, float, float]:
    """-r with its interval."""
    found = random_effects(families["z"].to_numpy(float), families["variance"].to_numpy(float), level)
    return -found["r_dis"], -found["ci_high"], -found["ci_low"]


def gqa_families(families: pd.DataFrame, left_out: str = "") -> Measurement:
    """Mean of -r_dis over families with grouped-query attention."""
    chosen = families[families["attention"] == "GQA"]
    if len(chosen) < FEWEST_FAMILIES:
        text = f"needs {FEWEST_FAMILIES} families with grouped-query attention, this study has {len(chosen)}{left_out}"
        return Measurement(missing=text)
    estimate, low, high = _pooled(chosen)
    _, low90, high90 = _pooled(chosen, 0.90)
    part = Part("mean over GQA families", estimate, low, high, low90, high90, len(chosen) - 1)
    return Measurement((part,), detail=f"{len(chosen)} families: {', '.join(chosen['family'])}{left_out}")


def gqa_minus_mha(families: pd.DataFrame, left_out: str = "") -> Measurement:
    """Mean of -r_dis over GQA families less that over MHA families."""
    groups = [families[families["attention"] == kind] for kind in ("GQA", "MHA")]
    counts = " and ".join(f"{len(part)} {kind}" for part, kind in zip(groups, ("GQA", "MHA"), strict=True))
    if min(map(len, groups)) < 2:
        return Measurement(missing=f"needs two families of each kind of attention, this study has {counts}{left_out}")
    bounds = []
    for level in (0.95, 0.90):
        (one, low, high), (other, other_low, other_high) = (_pooled(part, level) for part in groups)
        bounds += [
            one - other - float(np.hypot(one - low, other_high - other)),
            one - other + float(np.hypot(high - one, other - other_low)),
        ]
    part = Part("GQA less MHA", one - other, *bounds, min(map(len, groups)) - 1)
    return Measurement((part,), detail=f"{counts} families{left_out}")


def sizes(table: pd.DataFrame, verdicts: dict[str, pd.DataFrame], names: dict[str, str]) -> Measurement:
    """The rows of one family by size; names: evidence key to the claim whose measured value counts."""
    n_params = table.set_index("model")["n_params"]
    families: dict[str, list[str]] = {}
    for model in sorted(verdicts, key=lambda model: n_params[model]):
        families.setdefault(family_of(model), []).append(model)
    family, models = max(families.items(), key=lambda item: len(set(n_params[item[1]])))
    if n_params[models].nunique() < 2:
        return Measurement(missing="needs one family in several sizes, this study has none")
    parts, absent = [], []
    for model in models:
        rows = verdicts[model]
        rows = rows[rows["scope"] == "conceptual"].set_index("claim")
        for claim in names.values():
            row, label = rows.loc[claim], f"{claim}, {model}"
            if row["verdict"] == "not_tested" or not np.isfinite(float(row["ci_low"])):
                absent.append(f"{label} was not tested")
            else:
                ends = float(row["ci_low"]), float(row["ci_high"])
                parts.append(Part(label, float(row["measured"]), *ends, *ends))
    if not parts:
        return Measurement(missing=f"no row of {family} was tested ({', '.join(names.values())})")
    span = " to ".join(f"{n_params[model] / 1e9:.3g}B" for model in (models[0], models[-1]))
    return Measurement(tuple(parts), tuple(absent), f"{family}, {span}, {len(models)} sizes")


def cost(compute: pd.DataFrame, elsewhere: str) -> Measurement:
    """100 dollars less what the study cost; `elsewhere` says why this study is not the published one."""
    everything = float(compute["cost"].sum())
    training = float(compute.loc[compute["rule"] == TRAINING, "cost"].sum())
    currency = ", ".join(map(str, compute["currency"].dropna().unique()))
    spent = f"training {training:.2f}, everything {everything:.2f} {currency}"
    if elsewhere:
        return Measurement(
            missing="what another study cost says nothing about this claim; this one's bill is compute.csv"
        )
    if currency != "USD" or not training > 0:
        return Measurement(missing=f"prices in USD and trained arms are needed; found {spent}")
    ends = DOLLARS - everything, DOLLARS - training
    part = Part("dollars left of 100", DOLLARS - everything, *ends, *ends)
    return Measurement((part,), detail=f"{spent}; the interval is of what the claim may mean, not of chance")
