"""Which layers of a RoPE-influence profile stand clear of rounding noise. Light, for the rules that pick layers.

A layer is resolved if its influence is at least 3 times what rounding alone gives there (variant `noise_floor`, see
rope_influence). In bfloat16 rounding alone falls with depth and imitates "early layers dominate".
"""

from colocate.errors import InputError

BF16_WARNING = " (bf16 warning)"  # ends the names of variants that were computed in bfloat16
FLOORS = 3
MOST_UNRESOLVED = 1 / 3


def unresolved(variants) -> list[int]:
    """Layers whose influence is under 3 times their noise floor; none if the variants hold no floor (method `local`).

    variants: the table variant, item, layer, kv_head, value of one rope_influence profile. Layers without RoPE do not
    count.
    """
    whole = variants[variants["kv_head"] < 0]
    whole = whole.assign(variant=whole["variant"].str.removesuffix(BF16_WARNING))
    means = whole.pivot_table(index="layer", columns="variant", values="value", aggfunc="mean")
    if "noise_floor" not in means:
        return []
    method = next(name for name in ("output", "removal", "fisher") if name in means)
    small = means[method] < FLOORS * means["noise_floor"]
    return [int(layer) for layer in means.index[small]]


def check_resolved(variants, name: str) -> None:
    """InputError if profile `name` ranks rounding errors: over a third of its layers unresolved, or bfloat16 at all."""
    if variants["variant"].str.endswith(BF16_WARNING).any():
        raise InputError(
            f"profile {name}: precision is bfloat16, whose rounding alone falls with depth: a warning, no source of "
            "layer sets; set precision: float32"
        )
    if "noise_floor" not in set(variants["variant"]):
        return
    layers = unresolved(variants)
    floor = variants[variants["variant"] == "noise_floor"].dropna(subset="value")
    n_layers = floor["layer"].nunique()
    if len(layers) > MOST_UNRESOLVED * n_layers:
        listed = ", ".join(str(layer) for layer in layers)
        raise InputError(
            f"profile {name}: {len(layers)} of {n_layers} layers are under {FLOORS} times their noise floor: {listed}; "
            "a source of layer sets may have a third: raise log_alpha"
        )
