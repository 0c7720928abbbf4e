"""Which layers to adapt where no arm was trained: by layer gain, and failing that by a cheap proxy, labelled as such.

by_gain     the k layers of the largest gain on validate (the least loss alone; else by what is lost without them; else
            by the block around them). A layer whose gain cannot be told from the k-th's (t test, standard error pooled
            over layers, 5 %) is in question; if that is every other layer, the layers do not differ and all are
            recommended
by_proxy    the k layers highest in the primary sensitivity profile, the published rule: nothing was trained, so nothing
            is known of what it costs, unless its regret against a layer gain was measured
"""

import numpy as np
import pandas as pd
from scipy import stats

from colocate.statistics.regret import DRAWS, standard_error
from colocate.statistics.reliability import top_of
from colocate.statistics.stability import TOP, top_count

GAINS = ("layer_gain", "layer_gain_without", "layer_gain_block")
MEANINGS = {
    "layer_gain": "held-out loss saved by LoRA on it alone",
    "layer_gain_without": "held-out loss added by leaving it out",
    "layer_gain_block": "held-out loss saved by LoRA on the block around it",
}
SURE = 0.9


def by_gain(gains: dict[str, pd.DataFrame], top: float = TOP, seed: int = 0) -> dict:
    """basis, lora_layers, all_layers, in_question, probability, gain, se, n_seeds, why; from tables
    `layer,value,ci_high,n`."""
    basis = next(name for name in GAINS if name in gains)
    table = gains[basis].set_index("layer").sort_index()
    value, layers = table["value"].to_numpy(float), [int(layer) for layer in table.index]
    n_layers, n_seeds, se = len(layers), int(table["n"].min()), standard_error(table)
    k = top_count(n_layers, top)
    chosen = top_of(value[None], k)[0]
    found = {"basis": basis, "n_seeds": n_seeds, "gain": dict(zip(map(str, layers), value.tolist(), strict=True))}
    meaning = f"{basis}: {MEANINGS[basis]}, on validate, {n_seeds} seed{'s' * (n_seeds > 1)}"
    if not np.isfinite(se):
        why = f"The {k} layers of the largest gain ({meaning}). With one seed nothing is known of training again."
        return found | _layers(layers, chosen, np.zeros(n_layers, bool)) | {"se": None, "probability": None, "why": why}
    limit = stats.t.ppf(0.975, n_layers * (n_seeds - 1)) * np.sqrt(2) * se
    question = ~chosen & (value[chosen].min() - value < limit)
    noise = np.random.default_rng([seed, 7]).normal(size=(DRAWS, n_layers))
    share = top_of(value + se * noise, k).mean(axis=0)
    if (chosen | question).all():
        why = f"No layer can be told from the {k} best by its gain ({meaning}), so there is nothing to choose by."
        chosen = np.ones(n_layers, bool)
    else:
        sure = int((share[chosen] >= SURE).sum())
        why = (
            f"The {k} layers of the largest gain ({meaning}); {sure} of them are chosen in {SURE:.0%} of noisy repeats."
        )
        if question.any():
            why += f" {question.sum()} others cannot be told from the least of them."
    probability = dict(zip(map(str, layers), share.tolist(), strict=True))
    return found | _layers(layers, chosen, question & ~chosen) | {"se": se, "probability": probability, "why": why}


def by_proxy(name: str, profile: pd.DataFrame, selection: pd.DataFrame | None = None, top: float = TOP) -> dict:
    """The same keys from a profile `layer,value` and, where it has items, its rows of selection.csv."""
    known = profile.dropna(subset=["value"]).sort_values("layer")
    layers = [int(layer) for layer in known["layer"]]
    k = top_count(len(layers), top)
    chosen = top_of(known["value"].to_numpy(float)[None], k)[0]
    why = f"A proxy: the {k} layers highest in {name}. Nothing was trained, so what this choice costs is not known."
    found = {"basis": "proxy", "proxy": name, "n_seeds": 0, "gain": None, "se": None, "probability": None}
    rows = selection[selection["profile"] == name] if selection is not None else pd.DataFrame()
    if len(rows):
        share = dict(zip(rows["layer"].astype(str), rows["probability"].astype(float), strict=True))
        sure = sum(share[str(layer)] >= SURE for layer, take in zip(layers, chosen, strict=True) if take)
        why += f" {sure} of them are chosen in {SURE:.0%} of draws of its {rows['n_items'].iloc[0]} items."
        found["probability"] = share
    return found | _layers(layers, chosen, np.zeros(len(layers), bool)) | {"why": why}


def _layers(layers: list[int], chosen: np.ndarray, question: np.ndarray) -> dict:
    return {
        "lora_layers": [layer for layer, take in zip(layers, chosen, strict=True) if take],
        "in_question": [layer for layer, doubt in zip(layers, question, strict=True) if doubt],
        "all_layers": bool(chosen.all()),
    }
