"""What the metrics NAME_change share: the metric NAME of the tuned model minus that of the base model, layer by layer.

Variants: the change under NAME's own variant names, and both models' values as base/... and tuned/...
Metrics with items are paired: an item's change, and the bootstrap over items of their mean. Metrics of a whole sample
have the interval of the difference over halves of the texts, the same half in both models (intervals.half_sampling).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from colocate.files import Progress, silent
from colocate.profiles import Profile, tables, whole_sample
from colocate.profiles.capture import right_texts
from colocate.profiles.compared import Compared
from colocate.profiles.settings import parse


def of_items(
    compute: Callable, compared: Compared, tokenizer, settings: dict, data: dict, progress: Progress = silent
) -> Profile:
    """Change of a metric with items; `compute` is that of its module."""
    base, tuned = compared.both(lambda model, progress: compute(model, tokenizer, settings, data, progress), progress)
    items = base.items.assign(value=tuned.items["value"] - base.items["value"])
    values = items["value"].to_numpy().reshape(-1, compared.n_layers)
    change = base.variants.assign(value=tuned.variants["value"] - base.variants["value"])
    each = [
        found.variants.assign(variant=f"{name}/" + found.variants["variant"])
        for name, found in (("base", base), ("tuned", tuned))
    ]
    return Profile(
        profile=tables.mean_profile(values, settings.get("seed", 0)),
        items=items,
        variants=pd.concat([change, *each], ignore_index=True),
    )


def of_sample(
    statistic: Callable[[np.ndarray], np.ndarray],
    compared: Compared,
    tokenizer,
    settings: dict,
    data: dict,
    progress: Progress = silent,
) -> Profile:
    """Change of a statistic of all texts together, (L, N, D) to (L,); settings, texts and pools: whole_sample."""
    chosen = parse(whole_sample.Settings, settings)
    rows = right_texts(data, whole_sample.FEWEST)
    base, tuned = compared.states(tokenizer, rows, chosen.batch_tokens, progress)

    def change(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return statistic(y) - statistic(x)

    return Profile(
        profile=whole_sample.profile_of(change, [base, tuned], chosen),
        variants=pd.concat(
            [
                whole_sample.variants_of(change, [base, tuned]),
                whole_sample.variants_of(statistic, [base], "base/"),
                whole_sample.variants_of(statistic, [tuned], "tuned/"),
            ],
            ignore_index=True,
        ),
    )
