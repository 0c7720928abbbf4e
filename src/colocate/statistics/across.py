"""Models side by side: the model is the unit of generality, so only several of them can carry a general statement.

One row a model with its primary correlation; with two models or more a last row `random effects`: the mean over models
of z = artanh(r), weights 1 / (se_i^2 + tau^2), tau^2 by DerSimonian and Laird 1986, interval by Hartung and Knapp 2001
with t of k - 1 degrees of freedom. se_i comes from the model's own interval.
"""

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = [
    *(
        "model",
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


def random_effects(r: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict:
    """Mean correlation over k >= 2 models with its 95 % interval: r, ci_low, ci_high, and tau of artanh(r)."""
    z, z_low, z_high = (np.arctanh(np.clip(values, -EDGE, EDGE)) for values in (r, low, high))
    variance = ((z_high - z_low) / (2 * stats.norm.ppf(0.975))) ** 2
    k, weight = len(z), 1 / variance
    fixed = np.sum(weight * z) / np.sum(weight)
    q = np.sum(weight * (z - fixed) ** 2)
    tau2 = max(0.0, (q - (k - 1)) / (np.sum(weight) - np.sum(weight**2) / np.sum(weight)))
    weight = 1 / (variance + tau2)
    mean = np.sum(weight * z) / np.sum(weight)
    spread = np.sum(weight * (z - mean) ** 2) / ((k - 1) * np.sum(weight))
    half = stats.t.ppf(0.975, k - 1) * np.sqrt(spread)
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
        row = {"model": model, "note": ""} | {key: geometry[key] for key in COLUMNS if key in geometry}
        primary = correlations[model][correlations[model]["primary"].astype(bool)]
        if len(primary):
            row |= primary.iloc[0][["r_s", "r_dis", "ci_low", "ci_high", "p_depth"]].to_dict()
        table = contrasts[model]
        losses = table[(table["outcome"] == "heldout_loss") & (table["arm_b"] == "base")]
        if len(losses):
            best = losses.loc[losses["difference"].idxmin()]
            row |= {"best_arm": best["arm_a"], "best_arm_heldout_loss": best["difference"]}
        rows.append(row)
    known = [row for row in rows if all(np.isfinite(row.get(key, np.nan)) for key in ("r_dis", "ci_low", "ci_high"))]
    if len(known) >= 2:
        pooled = random_effects(*(np.array([row[key] for row in known]) for key in ("r_dis", "ci_low", "ci_high")))
        note = f"mean over {len(known)} models, tau of artanh(r) = {pooled.pop('tau'):.3g}"
        rows.append({"model": "random effects", "note": note} | pooled)
    return pd.DataFrame(rows, columns=COLUMNS)
