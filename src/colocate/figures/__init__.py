"""The figures of a study: each draws one kind of result and says in its caption how to read it.

`FIGURES[name]` holds the title, the caption, the kinds of results that the figure needs (keys of
`colocate.results.LAYOUT`) and the module that draws it. `draw(name, inputs)` makes the figure, `save(figure, path)`
writes it: the same inputs give the same bytes, as SVG (text as text, 900 px wide) or PDF. A study may lack what a
figure shows (no arm learned a RoPE scale, nothing has been evaluated): the figure then says so in words.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

from colocate.errors import InputError


@dataclass(frozen=True)
class Figure:
    """One entry of the registry; `module` has `draw(inputs: dict) -> matplotlib Figure`, inputs named in `needs`."""

    title: str
    caption: str
    needs: tuple[str, ...]
    module: str


FIGURES = {
    "profiles": Figure(
        "Layer profiles",
        "Each panel is one metric over depth: its value (line) and its 95 % interval over items (band), where "
        "there is one. Shaded: the layers chosen by the two primary profiles. A dotted vertical line marks a "
        "layer without a value. A range wider than a factor of 30 has a log scale.",
        ("profiles", "correlations", "layer_sets"),
        "colocate.figures.profiles",
    ),
    "controls": Figure(
        "What the two primary metrics measure",
        "Left: the distance of a right and a wrong answer, beside that of two wrong ones and of two right ones. "
        "Middle: their ratio, per item: above 1, rightness adds to a mere difference in wording. Right: RoPE "
        "influence against the rounding noise of the same computation; layers under the dashed line are not "
        "resolved.",
        ("profiles", "variants", "correlations"),
        "colocate.figures.controls",
    ),
    "correlation": Figure(
        "The primary pair of profiles, layer against layer",
        "Left: ranks of the layers in the two profiles; a number is a layer, its colour the depth. Right: what "
        "is left of the ranks when the straight line in depth is taken out of both. Neighbouring layers are "
        "alike, so p comes from surrogates that are equally smooth.",
        ("profiles", "correlations"),
        "colocate.figures.correlation",
    ),
    "correlation_matrix": Figure(
        "Rank correlations among all profiles",
        "Spearman correlation over layers for each pair of profiles. Two readings of one quantity should agree; "
        "where they do not, the conclusion depends on the definition.",
        ("profiles",),
        "colocate.figures.correlation_matrix",
    ),
    "specification_curve": Figure(
        "The specification curve",
        "Every reading of sensitivity with every reading of RoPE influence, sorted by its correlation; readings "
        "that give the same profile (rank correlation above 0.99) are one. Below: the choices each reading makes.",
        ("specifications",),
        "colocate.figures.specification_curve",
    ),
    "stability": Figure(
        "How many items a stable ranking needs",
        "Left: the reliability of a profile made from so many items; dashed: 0.9. Right: how far its highest layers "
        "are those that all items together give. Dotted: the number of pairs of the published study.",
        ("stability",),
        "colocate.figures.stability",
    ),
    "layer_sets": Figure(
        "Which layers each arm adapts",
        "One row an arm: LoRA in the upper track, learned RoPE scales (GARFA) in the lower one. Arms that draw "
        "their layers at random have a row for each seed.",
        ("arms", "geometry"),
        "colocate.figures.layer_sets",
    ),
    "training": Figure(
        "Training and held-out loss",
        "Each panel shows one arm in colour and all others in grey. Held-out loss is measured before and after "
        "training.",
        ("training_logs",),
        "colocate.figures.training",
    ),
    "benchmarks": Figure(
        "Accuracy of every arm on every benchmark",
        "Dot: mean over seeds; red ticks: single seeds; line: 95 % Wilson interval over items (clusters of items "
        "that share a template); dashed: the base model; dotted: guessing. All arms answer the same items, so "
        "whether two differ is judged by the paired contrasts, not by the overlap of these lines.",
        ("evaluations",),
        "colocate.figures.benchmarks",
    ),
    "arms": Figure(
        "The reference arm against every other arm",
        "Paired differences with 95 % intervals over items and seeds. Filled: primary family, with p corrected "
        "by Holm; open: exploratory, no correction. An interval that crosses 0 is compatible with no difference.",
        ("contrasts",),
        "colocate.figures.arms",
    ),
    "alphas": Figure(
        "Learned RoPE scales",
        "The scale α of each adapted layer and KV head after training; it starts at 1 (horizontal line). Above 1 "
        "means a larger RoPE base, that is, lower frequencies.",
        ("alphas", "geometry"),
        "colocate.figures.alphas",
    ),
    "regret": Figure(
        "Cheap metrics against measured layer gain",
        "What the layers that a metric picks lose against the best layers, as training on single layers measures "
        "them: 0 is the best set, 1 no better than random layers. Lines: 95 % intervals over training seeds.",
        ("regret",),
        "colocate.figures.regret",
    ),
}


def draw(name: str, inputs: dict):
    """The matplotlib figure `name` from `inputs` (see `colocate.results.load_inputs`)."""
    import matplotlib

    from colocate.figures.style import STYLE

    if name not in FIGURES:
        raise InputError(f"figure {name!r} is unknown; allowed: {', '.join(FIGURES)}")
    missing = [need for need in FIGURES[name].needs if need not in inputs]
    if missing:
        raise InputError(f"figure {name!r} needs the results {', '.join(missing)}, which were not given")
    with matplotlib.rc_context(STYLE):
        return importlib.import_module(FIGURES[name].module).draw(inputs)


def save(figure, path: str | Path) -> None:
    """Write `figure` as .svg or .pdf (by the suffix), whole or not at all, without a date."""
    import matplotlib

    from colocate.figures.style import STYLE
    from colocate.files import replacing

    path = Path(path)
    date = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix)
    if date is None:
        raise InputError(f"{path}: a figure is written as .svg or .pdf")
    with matplotlib.rc_context(STYLE), replacing(path) as private:
        figure.savefig(private, format=path.suffix[1:], metadata={date: None})
