"""The smallest difference that a contrast can show: MDE = (z_.975 + z_.8) sqrt(Var), at 5 % two-sided and 80 % power.

After a run, Var comes from the contrasts themselves. Before one, Var = discordance (1 + 1/k) / 2 / n + 2 sd^2 / k for n
items and k seeds: two arms differ on a share `discordance` of the items, half of that tied to the item and half new
with every seed, and an arm's accuracy varies by `seed_sd` over seeds. In a composite of B benchmarks the item parts add
up over B^2, and a seed moves all of them together.
"""

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = ["arm_a", "arm_b", "benchmark", "outcome", "basis", "n_seeds", "n_items", "se", "mde", "family"]
FACTOR = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
DISCORDANCE, SEED_SD = 0.2, 0.015


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
