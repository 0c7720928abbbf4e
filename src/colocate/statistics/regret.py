"""How good a cheap metric is at choosing layers: its regret against the layer gain that training measures.

    G(S)      sum of the gains of the layers S (nat of held-out loss)
    regret    (G(best) - G(S)) / (G(best) - G(random)) for the k layers S that the metric picks: 0 = the best k layers,
              1 = no better than layers at random, above 1 = worse than those; G(random) = k times the mean gain
    interval  the gains are known up to the noise of training again: se_l of each layer's mean over seeds, pooled over
              layers. Draws g + se z, each with its own best set; percentiles less their mean, about the estimate, as
              for correlations (reliability.py): the best set of noisy gains is too good, and a plain percentile
              interval would count that twice. Coverage of 95 % intervals: 90 % with two seeds, 93 % with five

regret.csv    metric,direction,against,k,regret,ci_low,ci_high,n_seeds,note: direction `top` (highest values) and
              `bottom`. One seed: no interval.
"""

import numpy as np
import pandas as pd
from scipy import stats

from colocate.errors import InputError
from colocate.statistics.reliability import top_of
from colocate.statistics.stability import TOP, top_count

COLUMNS = ["metric", "direction", "against", "k", "regret", "ci_low", "ci_high", "n_seeds", "note"]
SIGNS = {"top": 1, "bottom": -1}
DRAWS = 2000


def regret(gains: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Regret of boolean sets (L,) or (rows, L) under gains (..., L). NaN where all layers gain the same."""
    k = int(np.atleast_1d(chosen.sum(axis=-1))[0])
    best = np.sort(gains, axis=-1)[..., -k:].sum(axis=-1)
    span = best - k * gains.mean(axis=-1)
    return np.where(span > 1e-15, (best - (gains * chosen).sum(axis=-1)) / np.where(span > 1e-15, span, 1), np.nan)


def standard_error(gain: pd.DataFrame) -> float:
    """Of one layer's mean gain over seeds, pooled over layers; NaN with one seed. From `value,ci_high,n`."""
    n = gain["n"].to_numpy(float)
    if (n < 2).any():
        return float("nan")
    se = (gain["ci_high"] - gain["value"]).to_numpy(float) / stats.t.ppf(0.975, n - 1)
    return float(np.sqrt((se**2).mean()))


def regrets(
    profiles: dict[str, pd.DataFrame], gains: dict[str, pd.DataFrame], top: float = TOP, seed: int = 0
) -> pd.DataFrame:
    """The table with COLUMNS: every profile in both directions against every gain.

    profiles    cheap metrics: name to `layer,value`
    gains       layer_gain, layer_gain_without, layer_gain_block: name to `layer,value,ci_low,ci_high,n`, n = seeds

    Layers where the metric is not defined cannot be picked by it; where the gain is not finite, InputError.
    """
    rows = []
    for against, gain in gains.items():
        gain = gain.set_index("layer").sort_index()
        if not np.isfinite(gain["value"]).all():
            bad = [int(layer) for layer in gain.index[~np.isfinite(gain["value"])]]
            raise InputError(f"profile {against}: layers {bad} have no finite gain; run their gain_layer jobs again")
        value, se = gain["value"].to_numpy(float), standard_error(gain)
        noise = np.random.default_rng([seed, 6]).normal(size=(DRAWS, len(value)))
        k = top_count(len(value), top)
        for name, profile in profiles.items():
            metric = profile.set_index("layer")["value"].reindex(gain.index).to_numpy(float)
            defined = np.isfinite(metric)
            for direction, sign in SIGNS.items():
                row = {
                    "metric": name,
                    "direction": direction,
                    "against": against,
                    "k": k,
                    "n_seeds": int(gain["n"].min()),
                }
                if defined.sum() < k:
                    note = f"{name} has values at {defined.sum()} layers only"
                    rows.append(row | {"note": note})
                    continue
                chosen = top_of(np.where(defined, sign * metric, -np.inf)[None], k)[0]
                row |= {"regret": float(regret(value, chosen)), "note": _ties(sign * metric, chosen)}
                if np.isfinite(se):
                    drawn = regret(value + se * noise, chosen)
                    low, high = np.percentile(drawn, [2.5, 97.5]) - drawn.mean() + row["regret"]
                    row |= {"ci_low": max(0.0, float(low)), "ci_high": float(high)}
                rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _ties(values: np.ndarray, chosen: np.ndarray) -> str:
    """A tie at the edge of the set, where the choice is an accident."""
    edge = values[chosen].min()
    tied = np.flatnonzero(values == edge)
    return f"layers {tied.tolist()} are tied at the edge of the set" if not chosen[tied].all() else ""
