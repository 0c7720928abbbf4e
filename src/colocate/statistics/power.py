"""The smallest difference that a contrast can show: MDE = (z_.975 + z_.8) sqrt(Var), at 5 % two-sided and 80 % power.

After a run, Var comes from the contrasts themselves. Before one, Var = discordance (1 + 1/k) / 2 / n + 2 sd^2 / k for n
items and k seeds: two arms differ on a share `discordance` of the items, half of that tied to the item and half new
with every seed, and an arm's accuracy varies by `seed_sd` over seeds. In a composite of B benchmarks the item parts add
up over B^2, and a seed moves all of them together.

Items x seeds that a claim needs: the same, solved for n at MDE = its threshold a (its margin where a is 0). With few
seeds their variance alone can exceed what is allowed, and no number of items is enough.
"""

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = ["arm_a", "arm_b", "benchmark", "outcome", "basis", "n_seeds", "n_items", "se", "mde", "family"]
FACTOR = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
DISCORDANCE, SEED_SD = 0.2, 0.015
NEEDED = ["claim", "effect", "unit", "n_seeds", "n_items", "note"]
SEEDS = (1, 2, 3, 5, 10, 20)


def power(contrasts: pd.DataFrame) -> pd.DataFrame:
    """One row a contrast, in its outcome's unit (a share for accuracy, nat for the others); `basis` is "data"."""
    table = contrasts.assign(basis="data", mde=FACTOR * contrasts["se"])
    return table[COLUMNS].reset_index(drop=True)


def planned(
    n_items: dict[str, int], n_seeds: int, discordance: float = DISCORDANCE, seed_sd: float = SEED_SD
) -> pd.DataFrame:
    """`benchmark,n_items,n_seeds,se,mde` of accuracy (a share) before a run, benchmarks as named and then their
    composite.
    """
    items = {name: discordance * (1 + 1 / n_seeds) / 2 / n for name, n in n_items.items()}
    seed = 2 * seed_sd**2 / n_seeds
    rows = [[name, n_items[name], n_seeds, np.sqrt(item + seed)] for name, item in items.items()]
    if len(rows) > 1:
        rows.append(
            ["composite", sum(n_items.values()), n_seeds, np.sqrt(sum(items.values()) / len(items) ** 2 + seed)]
        )
    table = pd.DataFrame(rows, columns=["benchmark", "n_items", "n_seeds", "se"])
    return table.assign(mde=FACTOR * table["se"])


def items_needed(effect: float, n_seeds: int, discordance: float = DISCORDANCE, seed_sd: float = SEED_SD) -> float:
    """Items with which a contrast of two arms shows `effect` (a share); infinite where more seeds are needed first."""
    left = (effect / FACTOR) ** 2 - 2 * seed_sd**2 / n_seeds
    return float(np.ceil(discordance * (1 + 1 / n_seeds) / 2 / left)) if left > 0 else float("inf")


def needed(claims: pd.DataFrame, seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """Table with NEEDED: each claim about accuracy in points (rows of claims.csv) by number of seeds."""
    rows = []
    for claim in claims[claims["unit"] == "points"].to_dict("records"):
        effect = claim["threshold"] or claim["margin"]
        for k in seeds:
            n = items_needed(effect / 100, k)
            note = "" if np.isfinite(n) else "no number of items is enough: the seeds vary too much"
            rows.append([claim["claim"], effect, "points", k, n, note])
    return pd.DataFrame(rows, columns=NEEDED)
