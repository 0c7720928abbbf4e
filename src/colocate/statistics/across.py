"""Models side by side: the model is the unit of generality, so only several of them can carry a general statement.

One row a model with its primary correlation. Sizes of one family (the letters that a model's name begins with) are one
unit: their z = artanh(r) are averaged first. With two families or more a row `random effects`, and one for each kind of
attention that has two: the mean over families of z, weights 1 / (se_i^2 + tau^2), tau^2 by DerSimonian and Laird 1986,
interval by Hartung and Knapp 2001 with t of k - 1 degrees of freedom. se_i comes from the model's own interval.
"""

import re

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = [
    *(
        "model",
        "family",
        "n_params",
        "attention",
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "rope_type",
        "rope_theta",
        "device",
        "dtype",
    ),
    *("r_s", "r_dis", "ci_low", "ci_high", "p_depth", "best_arm", "best_arm_heldout_loss", "note"),
]
EDGE = 0.999  # artanh is infinite at 1


def family_of(model: str) -> str:
    """llama of llama31-8b, smollm of smollm2-135m; a name without letters in front stands for itself."""
    letters = re.match(r"[a-z]+", model.lower())
    return letters[0] if letters else model


def on_z(r, low, high) -> tuple[np.ndarray, np.ndarray]:
    """artanh of correlations, and the variances that their 95 % intervals mean."""
    z, z_low, z_high = (np.arctanh(np.clip(np.asarray(values, float), -EDGE, EDGE)) for values in (r, low, high))
    return z, ((z_high - z_low) / (2 * stats.norm.ppf(0.975))) ** 2


def by_family(rows: pd.DataFrame) -> pd.DataFrame:
    """`family,attention,n_models,z,variance`: one row a family and kind of attention, from rows with an interval."""
    known = rows[np.isfinite(rows[["r_dis", "ci_low", "ci_high"]].astype(float)).all(axis=1)]
    found = []
    for (family, attention), part in known.groupby(["family", "attention"], sort=False):
        z, variance = on_z(part["r_dis"], part["ci_low"], part["ci_high"])
        found.append([family, attention, len(part), z.mean(), variance.sum() / len(part) ** 2])
    return pd.DataFrame(found, columns=["family", "attention", "n_models", "z", "variance"])


def random_effects(z: np.ndarray, variance: np.ndarray, level: float = 0.95) -> dict:
    """Mean correlation over k >= 2 families with its interval: r_dis, ci_low, ci_high, and tau of z = artanh(r)."""
    k, weight = len(z), 1 / variance
    fixed = np.sum(weight * z) / np.sum(weight)
    q = np.sum(weight * (z - fixed) ** 2)
    tau2 = max(0.0, (q - (k - 1)) / (np.sum(weight) - np.sum(weight**2) / np.sum(weight)))
    weight = 1 / (variance + tau2)
    mean = np.sum(weight * z) / np.sum(weight)
    spread = np.sum(weight * (z - mean) ** 2) / ((k - 1) * np.sum(weight))
    half = stats.t.ppf(0.5 + level / 2, k - 1) * np.sqrt(spread)
    return {
        "r_dis": float(np.tanh(mean)),
        "ci_low": float(np.tanh(mean - half)),
        "ci_high": float(np.tanh(mean + half)),
        "tau": float(np.sqrt(tau2)),
    }


def compare(
    geometries: dict[str, dict], correlations: dict[str, pd.DataFrame], contrasts: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """Table with COLUMNS from each model's geometry, correlations and contrasts, by name of the model.

    best_arm is the arm with the lowest held-out loss against base, best_arm_heldout_loss that difference (nat a token).
    """
    rows = []
    for model, geometry in geometries.items():
        row = {"model": model, "family": family_of(model), "note": ""} | {
            key: geometry[key] for key in COLUMNS if key in geometry
        }
        primary = correlations[model][correlations[model]["primary"].astype(bool)]
        if len(primary):
            row |= primary.iloc[0][["r_s", "r_dis", "ci_low", "ci_high", "p_depth"]].to_dict()
        table = contrasts[model]
        losses = table[(table["outcome"] == "heldout_loss") & (table["arm_b"] == "base")]
        if len(losses):
            best = losses.loc[losses["difference"].idxmin()]
            row |= {"best_arm": best["arm_a"], "best_arm_heldout_loss": best["difference"]}
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    families = by_family(table)
    groups = {"random effects": families}
    groups |= {f"random effects, {kind}": part for kind, part in families.groupby("attention")}
    pooled = []
    for name, part in groups.items():
        if len(part) < 2 or (name != "random effects" and len(part) == len(families)):
            continue
        found = random_effects(part["z"].to_numpy(float), part["variance"].to_numpy(float))
        count = f"{len(part)} families ({part['n_models'].sum()} models)"
        note = f"mean over {count}, tau of artanh(r) = {found.pop('tau'):.3g}"
        pooled.append({"model": name, "note": note} | found)
    return pd.concat([table, pd.DataFrame(pooled, columns=COLUMNS)], ignore_index=True) if pooled else table
