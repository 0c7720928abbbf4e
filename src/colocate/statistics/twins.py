"""Architecture nulls: the primary correlation in twins of the model that have learned nothing, or in another order.

twins.csv    twin,kind,seed,sensitivity,rope,r_s,partial_r_s: kind `random`, the architecture randomly initialised with
             that seed; `shuffled`, the trained layers in a random order

What the model has beyond its architecture is d = r_s(model) - mean r_s(random twins). Its variance is that of r_s over
items plus s^2 / k over the k twins, df by Satterthwaite with infinitely many for the items' part; t interval.
"""

import re

import numpy as np
import pandas as pd
from scipy import stats

from colocate.errors import InputError
from colocate.statistics.correlations import common_layers, layer_values, partial_rank_correlation

COLUMNS = ["twin", "kind", "seed", "sensitivity", "rope", "r_s", "partial_r_s"]
FEWEST_TWINS = 2


def twins(profiles: dict[str, dict[str, pd.DataFrame]], primary: tuple[str, str]) -> pd.DataFrame:
    """The table with COLUMNS, from {twin: {profile: `layer,value`}}. Raises InputError on a twin named otherwise."""
    rows = []
    for twin, found in profiles.items():
        named = re.fullmatch(r"(random|shuffled)(\d+)", twin)
        if named is None:
            raise InputError(f"twin: found {twin!r}; allowed: random or shuffled, and a seed")
        x, y, _ = common_layers(primary, [layer_values(name, found) for name in primary])
        r = float(stats.spearmanr(x, y).statistic)
        partial = partial_rank_correlation(x.to_numpy(), y.to_numpy(), x.index.to_numpy(float))
        rows.append([twin, named[1], int(named[2]), *primary, r, partial])
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["kind", "seed"], ignore_index=True)


def beyond_architecture(primary: dict, table: pd.DataFrame, level: float = 0.95) -> tuple[float, float, float, float]:
    """(d, low, high, df) of r_s less the mean r_s of the random twins; NaN bounds with fewer than two of them.

    primary    the primary row of correlations.csv: r_s, and its interval over items, which is that of r_dis
    """
    found = table.loc[table["kind"] == "random", "r_s"].to_numpy(float)
    d, k = float(primary["r_s"] - found.mean()), len(found)
    scale = np.sqrt(primary["reliability_x"] * primary["reliability_y"])
    item = ((primary["ci_high"] - primary["ci_low"]) / (2 * stats.norm.ppf(0.975)) * scale) ** 2
    if k < FEWEST_TWINS or not np.isfinite(item):
        return d, float("nan"), float("nan"), float("nan")
    between = found.var(ddof=1) / k
    variance = item + between
    df = float((k - 1) * (variance / between) ** 2) if between > 0 else float("inf")
    half = float(stats.t.ppf(0.5 + level / 2, df) * np.sqrt(variance))
    return d, d - half, d + half, df
