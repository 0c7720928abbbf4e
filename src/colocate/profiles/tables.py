"""From arrays to the tables of a Profile. Arrays are (items, layers); L layers counted from 0."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from colocate.profiles import Profile
from colocate.profiles.intervals import bootstrap_mean

ALL_HEADS = -1


def of_items(
    found: dict[str, tuple[list[str], np.ndarray]], chosen: str, seed: int, clusters: Sequence | None = None
) -> Profile:
    """A metric's Profile from its variants, each the items and their values (n, L); `chosen` becomes the profile.

    clusters: a label for each of its items, where some depend on each other (intervals.bootstrap_mean).
    """
    items, values = found[chosen]
    return Profile(
        profile=mean_profile(values, seed, clusters),
        items=item_rows(items, values),
        variants=pd.concat([variant_rows(name, *entry) for name, entry in found.items()], ignore_index=True),
    )


def mean_profile(values: np.ndarray, seed: int, clusters: Sequence | None = None) -> pd.DataFrame:
    """values (n, L) to layer, value, ci_low, ci_high, n. A layer without values (all NaN) keeps NaN and n = 0."""
    low, high = bootstrap_mean(values, seed, clusters=clusters)
    n = np.sum(~np.isnan(values), axis=0)
    return profile(values.mean(axis=0), low, high, n)


def profile(value, low, high, n) -> pd.DataFrame:
    """layer, value, ci_low, ci_high, n from (L,) arrays."""
    columns = {"layer": np.arange(len(value)), "value": value, "ci_low": low, "ci_high": high, "n": n}
    return pd.DataFrame(columns)


def item_rows(items: list[str], values: np.ndarray) -> pd.DataFrame:
    """item, layer, value from (n, L), item by item."""
    n_items, n_layers = values.shape
    return pd.DataFrame(
        {
            "item": np.repeat(np.array(items, dtype=object), n_layers),
            "layer": np.tile(np.arange(n_layers), n_items),
            "value": values.reshape(-1),
        }
    )


def variant_rows(variant: str, items: list[str], values: np.ndarray, kv_head: int = ALL_HEADS) -> pd.DataFrame:
    """variant, item, layer, kv_head, value from (n, L)."""
    rows = item_rows(items, values)
    rows.insert(0, "variant", variant)
    rows.insert(3, "kv_head", kv_head)
    return rows
