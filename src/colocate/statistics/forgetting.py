"""What an arm changed against base: the rows of forgetting.csv.

arm, benchmark, outcome   one row for each outcome of each benchmark (the contrast arm - base, see
                          colocate.statistics.contrasts), and one for neutral text: benchmark `neutral_kl`, outcome `kl`
difference                arm - base; of `neutral_kl` the mean over texts of the KL to base in nats a token
                          (colocate.drift), which is 0 for base itself
ci_low, ci_high           95 %; of `neutral_kl` a t interval over texts, each the mean over seeds, cut off at 0: it
                          speaks of these adapters and of other texts of the same kinds
p                         of no difference; none for `neutral_kl`: no trained arm has a KL of exactly 0
n_items, n_seeds          items or texts, and seeds
"""

import pandas as pd
from scipy import stats

NEUTRAL, OUTCOME = "neutral_kl", "kl"
COLUMNS = ["arm", "benchmark", "outcome", "difference", "ci_low", "ci_high", "p", "n_items", "n_seeds"]


def forgetting(contrasts: pd.DataFrame, drifts: pd.DataFrame, base: str = "base") -> pd.DataFrame:
    """`contrasts`: contrasts.csv; `drifts`: arm,seed,text,tokens,kl of every trained run. Columns COLUMNS.

    Composites of benchmarks and the held-out text of the training mixture are in contrasts.csv alone.
    """
    named = contrasts["benchmark"].astype(str)
    own = (contrasts["arm_b"] == base) & (named != "heldout") & ~named.str.startswith("composite")
    rows = contrasts[own].rename(columns={"arm_a": "arm"})[COLUMNS].to_dict("records")
    if len(drifts):
        rows += [_neutral(str(arm), found) for arm, found in drifts.groupby("arm", sort=False)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _neutral(arm: str, found: pd.DataFrame) -> dict:
    kl = found.groupby("text")["kl"].mean()
    row = {"arm": arm, "benchmark": NEUTRAL, "outcome": OUTCOME, "difference": kl.mean(), "n_items": len(kl)}
    if len(kl) > 1:
        half = float(stats.t.ppf(0.975, len(kl) - 1)) * kl.sem()
        row |= {"ci_low": max(0.0, kl.mean() - half), "ci_high": kl.mean() + half}
    return row | {"n_seeds": found["seed"].nunique()}
