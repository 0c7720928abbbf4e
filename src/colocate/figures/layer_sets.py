"""Which layers each arm adapts: a track for LoRA and one for learned RoPE scales, over depth."""

from colocate.figures.style import GREEN, MUTED, PINK, canvas, label, layer_axis, legend, message


def draw(inputs: dict):
    from matplotlib.patches import Patch

    rows = tracks(inputs["arms"])
    if not rows:
        return message("No arm of this study adapts a layer.")
    figure, axes = canvas(0.8 + 0.36 * len(rows))
    axis = axes[0, 0]
    for y, row in enumerate(rows):
        for layers, colour, shift in ((row["lora"], GREEN, -0.18), (row["garfa"], PINK, 0.18)):
            axis.barh([y + shift] * len(layers), 0.86, 0.3, [layer - 0.43 for layer in layers], color=colour)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axis.annotate(f"{row['n_trainable']:,} parameters", (1.01, y), fontsize=8, color=MUTED, **place)
    layer_axis(axis, inputs["geometry"].get("n_layers") or 1 + max(max((*row["lora"], *row["garfa"])) for row in rows))
    axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("layer")
    legend(figure, [Patch(color=GREEN, label="LoRA"), Patch(color=PINK, label="learned RoPE scale (GARFA)")])
    return figure


def tracks(arms: list[dict]) -> list[dict]:
    """One row an arm, or one for each distinct choice of layers where the seeds draw different ones."""
    rows = {}
    for arm in arms:
        lora, garfa = tuple(arm["lora_layers"]), tuple(arm["garfa_layers"])
        if lora or garfa:
            row = {"arm": arm["arm"], "lora": lora, "garfa": garfa, "n_trainable": arm["n_trainable"], "seeds": []}
            rows.setdefault((arm["arm"], lora, garfa), row)["seeds"].append(arm["seed"])
    names = [row["arm"] for row in rows.values()]
    for row in rows.values():
        seeds = ", ".join(map(str, row["seeds"]))
        row["label"] = label(row["arm"]) + (f", seed {seeds}" if names.count(row["arm"]) > 1 else "")
    return list(rows.values())


def table(inputs: dict):
    """arm, seed, adapter (lora or garfa), layer, n_trainable of the whole arm."""
    import pandas as pd

    rows = [
        (arm["arm"], arm["seed"], adapter, layer, arm["n_trainable"])
        for arm in inputs["arms"]
        for adapter in ("lora", "garfa")
        for layer in arm[f"{adapter}_layers"]
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "adapter", "layer", "n_trainable"])
