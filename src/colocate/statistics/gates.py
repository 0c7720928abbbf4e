"""The gates that a verdict must pass.

    gate                opens if
    reliability         both primary profiles have reliability >= 0.8 over their items
    reliability_depth   the same of what is left of them given depth
    overlap             fewer than half of S are in R: else arms on S and arms on R barely differ
    block               S is not simply a block of neighbouring layers: else profile and depth are not separable
    chance              base is above guessing, on a benchmark, or in the mean of all
    seeds, draws        enough of them; checked on each measurement, `colocate.statistics.claims`

A gate is a name and the reason why it does not open, "" if it does.
"""

import numpy as np
import pandas as pd
from scipy import stats

from colocate.statistics import benchmarks

LEAST_RELIABILITY = 0.8


def profile_gates(primary: dict | None) -> dict[str, str]:
    gates = {}
    for gate, prefix, what in (("reliability", "", ""), ("reliability_depth", "partial_", " given depth")):
        values = [primary[f"{prefix}reliability_{side}"] for side in "xy"] if primary else [np.nan]
        low = [f"{value:.2f}" for value in values if not value >= LEAST_RELIABILITY]
        gates[gate] = (
            f"reliability of the profiles{what} {' and '.join(low)}, needed: {LEAST_RELIABILITY}" if low else ""
        )
    return gates


def set_gates(sets: dict[str, list[int]]) -> dict[str, str]:
    if len(sets) < 2:
        return {}
    chosen, other = set(sets["S"]), set(sets["R"])
    shared, k = len(chosen & other), len(chosen)
    block = max(chosen) - min(chosen) + 1 == k
    return {
        "overlap": ""
        if shared < k / 2
        else f"S and R share {shared} of {k} layers, needed: fewer than half; "
        "take a smaller top or another primary pair",
        "block": f"profile and depth not separable: S is the block of layers {min(chosen)} to {max(chosen)}"
        if block
        else "",
    }


class Guessing:
    """Whether base answers better than guessing: the lower end of its 95 % interval against the level of chance."""

    def __init__(self, summaries: pd.DataFrame, base: str):
        self.level, self.base = {}, {}
        rows = summaries[(summaries["arm"] == base) & summaries["accuracy"].notna()]
        for row in rows.to_dict("records"):
            level = row.get("chance")
            level = benchmarks.chance(row["benchmark"]) if level is None or pd.isna(level) else level
            if level is not None:
                self.level[row["benchmark"]] = float(level)
                self.base[row["benchmark"]] = (float(row["accuracy"]), float(row["n"]))

    def above(self, benchmark: str) -> bool:
        if benchmark not in self.base:
            return False
        accuracy, n = self.base[benchmark]
        low = stats.binomtest(round(accuracy * n), round(n)).proportion_ci(method="wilson").low
        return bool(low > self.level[benchmark] + 1e-12)

    def failed(self) -> str:
        """Why the mean of all benchmarks does not pass; empty if it does."""
        if not self.base:
            return "base was not evaluated, or on benchmarks with an unknown level of chance"
        excess = np.mean([accuracy - self.level[name] for name, (accuracy, _) in self.base.items()])
        se = np.sqrt(sum(p * (1 - p) / n for p, n in self.base.values())) / len(self.base)
        if excess - stats.norm.ppf(0.975) * se > 0:
            return ""
        found = f"{100 * excess:.1f} points over guessing in the mean, standard error {100 * se:.1f}"
        return f"base is not above chance: {found}"
