"""Hold what a study's arms ask of a model's layers (colocate.arm_checks) against its geometry.

Alone in its module: the job that records the geometry imports it, and all others of the model follow that job.
"""


def refused(asked: list[dict], geometry: dict) -> list[tuple[str, str]]:
    """[(key of the config, what was found there, and what is allowed)] of all that these layers can never give.

    asked     [{"key", "found", "modules", "layers", "number"}]: `number` of `layers` have to have linear `modules` of
              these names; where `modules` is None, they have to rotate
    geometry  of the model, as geometry.read_geometry gives it
    """
    shapes, rotating = geometry["linear_shapes"], geometry["rope_layers"]
    said = []
    for row in asked:
        if row["modules"] is None:
            if without := _lacking(row, rotating):
                which = f"found {row['found']}; layers {without} of this model have no rotary position encoding"
                said.append((row["key"], f"{which}; allowed: a set of layers {rotating}"))
            continue
        for module in row["modules"]:
            having = [int(layer) for layer, linear in shapes.items() if module in linear]
            if without := _lacking(row, having):
                which = (
                    f"layers {without} of set {row['found']} do not have" if having else "no layer of this model has"
                )
                known = dict.fromkeys(name for layer in without for name in shapes[str(layer)])
                said.append((row["key"], f"found {module}, which {which}; allowed: {', '.join(known)}"))
    return list(dict.fromkeys(said))


def _lacking(row: dict, having: list[int]) -> list[int]:
    """The layers that stand in the way, where too few are left without them."""
    without = sorted(set(row["layers"]) - set(having))
    return without if len(row["layers"]) - len(without) < row["number"] else []
