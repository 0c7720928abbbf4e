"""Rules that turn layer profiles into sets of layers, and arms into the one description that training reads.

Layers count from 0; L is the number of decoder layers. A count is absolute from 1 up, or a fraction of L below 1
(0.28 = 9 of 32). Mid-Block's segments are those of Zhao et al. 2026 (arXiv 2604.11838): segment i of five holds layers
int(i L / 5) to int((i + 1) L / 5) - 1.
"""

import itertools
import math
from zlib import crc32

from colocate import budget
from colocate import tuning as tuned
from colocate.errors import InputError

PARTS = ("lora", "garfa", "temperature")  # of an arm, each on a layer set
LORA = ("rank", "alpha", "targets", "dropout", "variant")  # what an arm with LoRA takes from `training.lora`
COUNTED = ("rank", "targets", "variant")  # and what the number of trainable parameters depends on


def count(value: float, n_layers: int, where: str = "count") -> int:
    """Number of layers meant by `value`: itself, or a fraction of the depth, rounded, at least 1."""
    number = max(1, round(value * n_layers)) if value < 1 else value
    if number != int(number) or number > n_layers:
        raise InputError(
            f"{where}: found {value}; allowed: a fraction below 1, or a whole number up to {n_layers} layers"
        )
    return int(number)


def segments(mask: str, n_layers: int) -> list[int]:
    """Layers of the depth segments whose bit is 1, of len(mask) equal segments."""
    parts = len(mask)
    return [
        layer
        for i, bit in enumerate(mask)
        if bit == "1"
        for layer in range(i * n_layers // parts, (i + 1) * n_layers // parts)
    ]


def ranked(profile: dict[int, float], n: int, highest: bool, where: str) -> list[int]:
    """The n layers with the highest (or lowest) values.

    Raises InputError on NaN among the values and on a tie across the edge of the set: either would make the set an
    accident of sorting.
    """
    missing = [layer for layer, value in profile.items() if not math.isfinite(value)]
    if missing:
        raise InputError(
            f"{where}: layers {missing} have no finite value; choose another profile, or list layers yourself"
        )
    order = sorted(profile, key=lambda layer: (-profile[layer] if highest else profile[layer], layer))
    if n < len(order) and profile[order[n - 1]] == profile[order[n]]:
        tied = sorted(layer for layer in order if profile[layer] == profile[order[n]])
        raise InputError(
            f"{where}: layers {tied} are tied at the edge of the {n} chosen; choose another count or profile"
        )
    return sorted(order[:n])


def select(
    name: str, rule: dict, n_layers: int, profile: dict[int, float] | None = None, sets: dict | None = None
) -> list[int]:
    """Layers of a set that is not drawn. `profile` serves top and bottom, `sets` (name to layers) union and minus."""
    where, sets = f"layer_sets.{name}", sets or {}
    if "top" in rule or "bottom" in rule:
        highest = "top" in rule
        n = count(rule["top" if highest else "bottom"], n_layers, where)
        return ranked(profile, n, highest, f"{where} by {rule['by']}")
    if "segments" in rule:
        chosen = segments(rule["segments"], n_layers)
    elif "depth" in rule:
        start, end = rule["depth"]
        chosen = range(round(start * n_layers), round(end * n_layers))
    elif "spaced" in rule:
        n = count(rule["spaced"], n_layers, where)
        chosen = [int((i + 0.5) * n_layers / n) for i in range(n)]
    elif "window" in rule:
        first, width = rule["window"]
        first = round(first * n_layers) if first < 1 else first
        if first != int(first):
            raise InputError(f"{where}: found first layer {first}; allowed: a fraction below 1, or a whole number")
        chosen = range(int(first), int(first) + count(width, n_layers, where))
    elif "shift" in rule:
        chosen = shifted(rule["shift"], sets, n_layers, where)
    elif "layers" in rule:
        chosen = rule["layers"]
    elif "all" in rule:
        chosen = range(n_layers)
    elif "union" in rule:
        chosen = set().union(*(sets[part] for part in rule["union"]))
    else:
        keep, drop = rule["minus"]
        chosen = set(sets[keep]) - set(sets[drop])
    chosen = sorted(set(chosen))
    outside = [layer for layer in chosen if not 0 <= layer < n_layers]
    if outside:
        raise InputError(f"{where}: layers {outside} do not exist; the model has layers 0 to {n_layers - 1}")
    if not chosen:
        raise InputError(f"{where}: {rule} gives no layer of a model with {n_layers}")
    return chosen


def shifted(rule: list, sets: dict, n_layers: int, where: str) -> list[int]:
    """The layers of a set moved by so many layers, or by a fraction of the depth below 1, at least one layer.

    The whole pattern must fit into the model: a part of it would be another number of layers.
    """
    name, distance = rule
    step = math.copysign(count(abs(distance), n_layers, where), distance) if distance else 0
    moved = [layer + int(step) for layer in sets[name]]
    if not step or moved[0] < 0 or moved[-1] >= n_layers:
        raise InputError(
            f"{where}: {name} {sets[name]} moved by {int(step)} gives layers {moved}; allowed: moves from "
            f"{-sets[name][0]} to {n_layers - 1 - sets[name][-1]} other than 0; change the distance, or leave out the "
            "arms that use this set"
        )
    return moved


def draw(name: str, rule: dict, n_layers: int, seed: int, number: int) -> list[int]:
    """A random set from its own stream, default_rng([seed, number, crc32(name)]): a new seed changes no other set."""
    import numpy as np

    n = count(rule["random"], n_layers, f"layer_sets.{name}")
    stream = np.random.default_rng([seed, number, crc32(name.encode())])
    return sorted(int(layer) for layer in stream.choice(n_layers, size=n, replace=False))


def _layers(entry: dict, part: str, rules: dict, sets: dict, n_layers: int, seed: int) -> list[int]:
    name = entry.get(part)
    if name is None:
        return []
    if "random" in rules[name]:
        return draw(name, rules[name], n_layers, seed, entry.get("draw", 0))
    return sets[name]


def used_defaults(entry: dict, matched: dict | None, training: dict) -> dict:
    """The part of the config's `training` that `resolve` reads for an arm: a change of any other key cannot reach it.

    An arm without LoRA takes no rank, one without GARFA and temperatures no lr_garfa, and what an entry says itself
    needs no default.
    """
    keys = {key for key in LORA if "lora" in entry and key not in entry}
    keys |= {key for key in COUNTED if "lora" in (matched or {}) and key not in matched}
    used = tuned.uses(entry) | {"lora_plus_ratio": "lora" in entry}
    rates = {name: training[name] for name in used if used[name] and name not in entry}
    return {"lora": {key: training["lora"][key] for key in sorted(keys)}} | rates


def resolve(
    arm: str,
    seed: int,
    entry: dict,
    matched: dict | None,
    rules: dict,
    sets: dict,
    geometry: dict,
    training: dict,
    tuning: dict | None = None,
) -> dict:
    """The resolved arm: layers, ranks, scale, targets, learning rates, trainable parameters, deviation from the budget.

    `entry` is the arm's config entry, `matched` that of the arm whose budget it matches, `sets` the layers of each
    selected set, `geometry` the model's geometry.json, `training` what `used_defaults` leaves of the config's section,
    `tuning` what `colocate.tuning.choose` found, whose rates come before the defaults. The rate of a part that the arm
    does not have is 0. InputError where two sets made from profiles turn out to be the same layers.
    """
    n_layers, shapes, kv_heads = geometry["n_layers"], geometry["linear_shapes"], geometry["n_kv_heads"]

    def describe(one: dict, keys: tuple[str, ...]) -> tuple[dict, budget.AdapterSpec]:
        lora = training["lora"] | {key: one[key] for key in keys if key in one}
        parts = {f"{part}_layers": _layers(one, part, rules, sets, n_layers, seed) for part in PARTS}
        for part in ("garfa", "temperature"):
            without = sorted(set(parts[f"{part}_layers"]) - set(geometry["rope_layers"]))
            if without:
                raise InputError(f"arms.{arm}.{part}: layers {without} of this model have no rotary position encoding")
        spec = budget.AdapterSpec(
            **{name: tuple(layers) for name, layers in parts.items()},
            **{key: lora[key] for key in keys if "lora" in one},
        )
        return parts, spec

    if "full" in entry:
        return _full(arm, seed, entry, geometry)
    _check_different(arm, entry, rules, sets)
    parts, spec = describe(entry, LORA)
    deviation = 0
    if matched is not None:
        target = budget.count_parameters(shapes, kv_heads, describe(matched, COUNTED)[1])
        mode = "as_published" if entry.get("scale") == "as_published" else "constant_scale"
        spec = budget.match_budget(
            target,
            shapes,
            kv_heads,
            spec.lora_layers,
            spec.garfa_layers,
            spec.targets,
            spec.rank,
            spec.alpha,
            mode,
            spec.dropout,
            temperature_layers=spec.temperature_layers,
            variant=spec.variant,
        )
        deviation = budget.count_parameters(shapes, kv_heads, spec) - target
    own, used = training | entry, tuned.uses(entry)
    rates = {name: own[name] if used[name] else tuned.UNUSED for name in tuned.RATES}
    if tuning is not None:
        chosen = tuning["grid"][tuning["chosen"]]
        rates = {name: chosen[name] for name in rates}
    return {
        "arm": arm,
        "seed": seed,
        **parts,
        "rank": _by_name(spec.rank),
        "alpha": _by_name(spec.alpha),
        "targets": list(spec.targets),
        "dropout": spec.dropout,
        "variant": spec.variant,
        **rates,
        "lora_plus_ratio": own["lora_plus_ratio"] if used["lr_lora"] else 1,
        "tuning": tuning,
        "n_trainable": budget.count_parameters(shapes, kv_heads, spec),
        "budget_deviation": deviation,
    }


def _full(arm: str, seed: int, entry: dict, geometry: dict) -> dict:
    """Full fine-tuning: every weight at one rate, `lr_lora`, and no layer with an adapter."""
    return {
        "arm": arm,
        "seed": seed,
        "full": True,
        **{f"{part}_layers": [] for part in PARTS},
        "lr_lora": entry["lr_full"],
        "lr_garfa": entry["lr_full"],
        "tuning": None,
        "n_trainable": geometry["n_params"],
        "budget_deviation": 0,
    }


def _check_different(arm: str, entry: dict, rules: dict, sets: dict) -> None:
    """Refuse an arm whose parts go to two sets by two profiles that are the same layers: it would test nothing."""
    names = sorted({entry[part] for part in PARTS if part in entry})
    by_profile = [name for name in names if "by" in rules[name]]
    for one, other in itertools.combinations(by_profile, 2):
        if sets[one] == sets[other]:
            raise InputError(
                f"arms.{arm}: layer sets {one} (by {rules[one]['by']}) and {other} (by {rules[other]['by']}) are the "
                f"same layers {sets[one]}, so that arms with one part on each cannot be told apart; make the sets "
                "smaller, choose other profiles, or leave these arms out of select.arms"
            )


def _by_name(value):
    """A number as it is; numbers by layer with text keys, as JSON has them."""
    return {str(layer): number for layer, number in value.items()} if isinstance(value, dict) else value
