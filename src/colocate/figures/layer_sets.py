"""What each arm trains in which layer: over depth a track for each kind of adapter, or one for all weights."""

from colocate.figures.style import BLUE, GREEN, MUTED, ORANGE, PINK, canvas, label, layer_axis, legend, message

KINDS = {  # what an arm can train in a layer -> words, colour
    "lora": ("LoRA", GREEN),
    "garfa": ("learned RoPE scale (GARFA)", PINK),
    "temperature": ("learned temperature", ORANGE),
    "full": ("all weights", BLUE),
}
THICK = 0.72  # of the distance between two arms, all tracks of one together


def draw(inputs: dict):
    from matplotlib.patches import Patch

    rows = tracks(inputs)
    if not rows:
        return message("No arm of this study adapts a layer.")
    shown = [kind for kind in KINDS if kind in ("lora", "garfa") or any(row[kind] for row in rows)]
    side_by_side = [kind for kind in shown if kind != "full"]
    thick = THICK / len(side_by_side)
    figure, axes = canvas(0.8 + 0.18 * len(side_by_side) * len(rows))
    axis = axes[0, 0]
    for y, row in enumerate(rows):
        for kind in shown:
            layers, colour = row[kind], KINDS[kind][1]
            shift = thick * (side_by_side.index(kind) - (len(side_by_side) - 1) / 2) if kind != "full" else 0
            height = 0.83 * (thick if kind != "full" else THICK)
            axis.barh([y + shift] * len(layers), 0.86, height, [layer - 0.43 for layer in layers], color=colour)
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axis.annotate(f"{row['n_trainable']:,} parameters", (1.01, y), fontsize=8, color=MUTED, **beside)
    layer_axis(axis, _n_layers(inputs))
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("layer")
    legend(figure, [Patch(color=KINDS[kind][1], label=KINDS[kind][0]) for kind in shown])
    return figure


def tracks(inputs: dict) -> list[dict]:
    """One row an arm that trains anything, or one for each distinct choice of layers where the seeds draw different
    ones: arm, seeds, label, n_trainable, and the layers of each of KINDS.
    """
    rows = {}
    for arm in inputs["arms"]:
        layers = {kind: _layers(arm, kind, inputs) for kind in KINDS}
        if any(layers.values()):
            row = layers | {"arm": arm["arm"], "n_trainable": arm["n_trainable"], "seeds": []}
            rows.setdefault((arm["arm"], *layers.values()), row)["seeds"].append(arm["seed"])
    names = [row["arm"] for row in rows.values()]
    for row in rows.values():
        seeds = ", ".join(map(str, row["seeds"]))
        row["label"] = label(row["arm"]) + (f", seed {seeds}" if names.count(row["arm"]) > 1 else "")
    return list(rows.values())


def table(inputs: dict):
    """arm, seed, adapter (one of KINDS), layer, n_trainable of the whole arm."""
    import pandas as pd

    rows = [
        (arm["arm"], arm["seed"], kind, layer, arm["n_trainable"])
        for arm in inputs["arms"]
        for kind in KINDS
        for layer in _layers(arm, kind, inputs)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "adapter", "layer", "n_trainable"])


def _layers(arm: dict, kind: str, inputs: dict) -> tuple[int, ...]:
    if kind == "full":
        return tuple(range(_n_layers(inputs))) if arm.get("full") else ()
    return tuple(arm.get(f"{kind}_layers", ()))


def _n_layers(inputs: dict) -> int:
    """Of the model; without its geometry as many as arms name."""
    named = [
        layer for arm in inputs["arms"] for key, value in arm.items() if key.endswith("_layers") for layer in value
    ]
    return inputs["geometry"].get("n_layers") or 1 + max(named, default=0)
