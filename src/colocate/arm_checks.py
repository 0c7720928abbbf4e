"""Hold a study's arms against a model's geometry, before anything of the model is measured or trained.

A layer set made from a profile is not known yet: n layers of all L may be chosen, and it is refused only where fewer
than n of them would do. Of a set that is made from such a set, one layer at least is needed.
"""

from colocate.config_schema import near
from colocate.layer_sets import PARTS, count, draw, select

Choice = tuple[list[int], int]  # layers that a set may take, and how many of them it takes


def problems(arms: dict, rules: dict, targets: list[str], geometry: dict) -> list[str]:
    """What of the arms this model can never be given, one line each, keys of the config first; empty if nothing.

    arms      {name: entry}: the layer sets of its PARTS, `draw`, its own `targets`; `seeds`, where a set is drawn
    rules     {name: rule} of every layer set that they need
    targets   of arms that name none: `training.lora.targets`
    geometry  of the model, as geometry.read_geometry gives it
    InputError for a fixed layer set that the model has no layers for.
    """
    found = []
    for arm, entry in arms.items():
        for part in [part for part in PARTS if part in entry]:
            choices = _choices(entry, part, rules, geometry["n_layers"])
            if part == "lora":
                key = f"arms.{arm}.targets" if "targets" in entry else "training.lora.targets"
                found += _targets(key, entry.get("targets", targets), choices, geometry["linear_shapes"], arm)
            elif without := _lacking(choices, geometry["rope_layers"]):
                found.append(
                    f"arms.{arm}.{part}: found {entry[part]}; layers {without} of this model have no rotary position "
                    f"encoding; allowed: a set of layers {geometry['rope_layers']}"
                )
    return list(dict.fromkeys(found))


def _targets(key: str, targets: list[str], choices: list[Choice], shapes: dict, arm: str) -> list[str]:
    found = []
    for target in targets:
        having = [int(layer) for layer, linear in shapes.items() if target in linear]
        without = _lacking(choices, having)
        known = list(dict.fromkeys(name for layer in without for name in shapes[str(layer)]))
        if without:
            which = f"layers {without}, which arm {arm} adapts, do not have" if having else "no layer of this model has"
            found.append(f"{key}: found {target}, which {which}{near(target, known)}; allowed: {', '.join(known)}")
    return found


def _choices(entry: dict, part: str, rules: dict, n_layers: int) -> list[Choice]:
    name = entry[part]
    if "random" not in rules[name]:
        return [_choice(name, rules, n_layers)]
    drawn = [draw(name, rules[name], n_layers, seed, entry.get("draw", 0)) for seed in entry["seeds"]]
    return [(layers, len(layers)) for layers in drawn]


def _choice(name: str, rules: dict, n_layers: int) -> Choice:
    rule = rules[name]
    if "by" in rule:
        return list(range(n_layers)), count(rule.get("top", rule.get("bottom")), n_layers, f"layer_sets.{name}")
    # Names of the sets that it is made from, among whatever else its rule holds.
    made_from = [part for kind in ("union", "minus", "shift") for part in rule.get(kind, []) if part in rules]
    parts = {part: _choice(part, rules, n_layers) for part in made_from}
    if any(len(layers) > number for layers, number in parts.values()):
        return list(range(n_layers)), 1
    layers = select(name, rule, n_layers, sets={part: layers for part, (layers, _) in parts.items()})
    return layers, len(layers)


def _lacking(choices: list[Choice], having: list[int]) -> list[int]:
    """Layers that stand in the way: those of a choice that cannot be met by the layers `having` what is needed."""
    return sorted(
        {
            layer
            for layers, number in choices
            if len(set(layers) & set(having)) < number
            for layer in set(layers) - set(having)
        }
    )
