"""Layer gain: what a layer is worth to LoRA, measured by training, as a profile over depth.

    kind      trained                          gain of layer l, in nat of held-out loss (validate)
    alone     LoRA on l only                   loss(base) - loss
    without   LoRA on every layer but l        loss - loss(LoRA on every layer)
    block     LoRA on the block around l       loss(base) - loss

A block is `width` layers centred on l (of an even width, one more above l), cut off at the ends of the model. A record
is what `colocate.training.subset_loss` returns, with its `layer`: a number, or "all".
"""

from colocate.errors import InputError

PROFILES = {"alone": "layer_gain", "without": "layer_gain_without", "block": "layer_gain_block"}  # by kind
ALL = "all"  # in place of a layer: the training on every layer that `without` compares with


def trained_layers(kind: str, layer: int | str, n_layers: int, width: int) -> list[int]:
    """Layers that get LoRA in one training of a kind."""
    if layer == ALL:
        return list(range(n_layers))
    if kind == "alone":
        return [layer]
    if kind == "without":
        return [other for other in range(n_layers) if other != layer]
    first = layer - (width - 1) // 2
    return list(range(max(0, first), min(n_layers, first + width)))


def gain_profile(kind: str, records: list[dict]):
    """Table layer, value, ci_low, ci_high, n: the mean over seeds of each layer's gain, its t interval, and the seeds.

    With one seed there is no interval: the ends are empty. InputError where `without` lacks the training on every layer
    with one of the seeds.
    """
    import numpy as np
    import pandas as pd
    from scipy import stats

    everywhere = {record["seed"]: record["loss"] for record in records if record["layer"] == ALL}
    single = [record for record in records if record["layer"] != ALL]
    if kind == "without":
        missing = sorted({record["seed"] for record in single} - set(everywhere))
        if missing:
            raise InputError(f"layer gain without: no training of every layer with seeds {missing}")
        gains = [record["loss"] - everywhere[record["seed"]] for record in single]
    else:
        gains = [record["loss_base"] - record["loss"] for record in single]
    table = pd.DataFrame({"layer": [record["layer"] for record in single], "gain": gains})
    table = table.groupby("layer")["gain"].agg(["mean", "std", "count"])
    half = stats.t.ppf(0.975, table["count"] - 1) * table["std"] / np.sqrt(table["count"])
    columns = {
        "value": table["mean"],
        "ci_low": table["mean"] - half,
        "ci_high": table["mean"] + half,
        "n": table["count"],
    }
    return pd.DataFrame(columns).rename_axis("layer").reset_index()
