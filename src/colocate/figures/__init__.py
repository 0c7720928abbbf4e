"""The figures of a study: each draws one kind of result and says in its caption how to read it.

`FIGURES[name]` holds the title, the caption, the kinds of results that the figure needs (keys of
`colocate.results.LAYOUT`) and the module that draws it.
`draw(name, inputs)` makes the figure, `table(name, inputs)` gives the numbers it shows, and `save(figure, path)` writes
it: the same inputs give the same bytes, as SVG (text as text, 900 px wide) or PDF. A study may lack what a
figure shows (no arm learned a RoPE scale, nothing has been evaluated): the figure then says so in words.
"""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from colocate.errors import InputError
from colocate.formats import scaled
from colocate.geometry import quantised

PLACES = re.compile(r'\b(?:d|x|y|width|height|viewBox|transform)="[^"]*"')  # attributes that hold coordinates
DECIMALS = re.compile(r"-?\d+\.\d{3,}")


@dataclass(frozen=True)
class Figure:
    """One entry of the registry; inputs named in `needs`, a dict.

    module      has `draw(inputs) -> matplotlib Figure` and `table(inputs) -> DataFrame`
    """

    title: str
    caption: str
    needs: tuple[str, ...]
    module: str


FIGURES = {
    "profiles": Figure(
        "Layer profiles",
        "Each panel is one metric over depth: its value (line) and its 95 % interval over items (band), where "
        "there is one. Dashed: three times the rounding noise of the same computation; a layer below it is not "
        "resolved. Shaded: the layers chosen by the two primary profiles. A dotted vertical line marks a "
        "layer without a value. A range wider than a factor of 30 has a log scale.",
        ("profiles", "variants", "correlations", "layer_sets"),
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
    "selection": Figure(
        "How surely each layer is chosen",
        "How often a layer is among the highest of its profile when the items are drawn anew. Filled: the layers that "
        "the study chose. A set whose bars are not all near 1 would be another one with other items.",
        ("selection", "correlations", "layer_sets"),
        "colocate.figures.selection",
    ),
    "twins": Figure(
        "The correlation in models that have learnt nothing",
        "Rank correlation of the primary pair in the model itself (filled), in copies with random weights, and in "
        "copies with their layers shuffled. A correlation that random weights show too is made by the architecture.",
        ("twins", "correlations"),
        "colocate.figures.twins",
    ),
    "variance": Figure(
        "What the choice of definition explains",
        "The share of the variance of the rank correlation over all readings that each choice explains: alone (dark), "
        "and beyond all other choices (light). A long bar: the conclusion depends on that choice.",
        ("specification_curve",),
        "colocate.figures.variance",
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
        "One row an arm, a track for each kind of adapter: LoRA, learned RoPE scales (GARFA) and, where an arm has "
        "them, learned temperatures. A full fine-tune trains every weight. Arms that draw their layers at random have "
        "a row for each seed.",
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
    "heatmap": Figure(
        "Arms by benchmarks",
        "Number: accuracy in per cent, the mean over seeds. Colour: the change from the untrained base model in "
        "percentage points, purple for better, orange for worse. Single cells are uncertain by many points on small "
        "benchmarks: the paired contrasts say which differences are more than chance.",
        ("evaluations",),
        "colocate.figures.heatmap",
    ),
    "benchmarks": Figure(
        "Accuracy of every arm on every benchmark",
        "Dot: mean over seeds; ticks: single seeds; line: 95 % Wilson interval over items (clusters of items "
        "that share a template); dashed: the base model; dotted: guessing. All arms answer the same items, so "
        "whether two differ is judged by the paired contrasts, not by the overlap of these lines.",
        ("evaluations",),
        "colocate.figures.benchmarks",
    ),
    "arms": Figure(
        "The reference arm against every other arm",
        "Paired differences with 95 % intervals over items and seeds. Filled: primary family, with p corrected "
        "by Holm; open: exploratory, no correction. Grey bar: differences smaller than what this study would show four "
        "times in five; a true effect inside it may well be missed. An interval that crosses 0 is compatible with no "
        "difference.",
        ("contrasts", "power"),
        "colocate.figures.arms",
    ),
    "forgetting": Figure(
        "Change from the untrained model",
        "Each arm minus the base model, on every benchmark and on neutral text, with its 95 % interval over items and "
        "seeds: accuracy, log-probability of the right answer, its margin over the best wrong one. Left of 0: the arm "
        "knows or does less than before training. Divergence is never below 0. All exploratory, no correction.",
        ("forgetting",),
        "colocate.figures.forgetting",
    ),
    "alphas": Figure(
        "Learned RoPE scales",
        "The scale α of each adapted layer and KV head after training; it starts at 1 (horizontal line). Above 1 "
        "means a larger RoPE base, that is, lower frequencies.",
        ("alphas", "geometry"),
        "colocate.figures.alphas",
    ),
    "changes": Figure(
        "What training changed, layer by layer",
        "Each panel compares every trained arm with the base model by one measure, layer by layer (mean over seeds). "
        "A similarity of 1 or a change of 0 means that the layer does what it did before.",
        ("arm_profiles",),
        "colocate.figures.changes",
    ),
    "layer_gain": Figure(
        "Measured layer gain against each metric",
        "One dot a layer: its rank by the metric and by what training on that layer alone gained in held-out loss. "
        "Were a metric a good guide, its dots would rise from left to right.",
        ("profiles",),
        "colocate.figures.layer_gain",
    ),
    "regret": Figure(
        "Cheap metrics against measured layer gain",
        "What the layers that a metric picks lose against the best layers, as training on single layers measures "
        "them: 0 is the best set, 1 no better than random layers. Lines: 95 % intervals over training seeds.",
        ("regret",),
        "colocate.figures.regret",
    ),
}


SMALL = 1e9  # parameters: a smaller model's figures say how small it is


def mini(sources: dict[str, str]) -> str:
    """In words, which of these benchmarks are mini ones; `sources` {benchmark: builtin, or where it is from}."""
    found = [name for name, source in sources.items() if source == "builtin"]
    if found and len(found) == len(sources):
        return "all benchmarks are mini ones"
    return f"{len(found)} mini benchmark{'s' * (len(found) > 1)}" if found else ""


def note(model: str, geometry: dict, mini: str) -> str:
    """What a figure of a small study says at its foot.

    geometry    of the model (geometry.json): n_params, and how its weights were quantised
    mini        as the function `mini` says it
    """
    parameters = geometry.get("n_params")
    if not mini and (parameters or 0) >= SMALL:
        return ""
    tail = f"; {mini}, not comparable with published scores" if mini else ""
    coarser = f" ({quantised(geometry)})" if quantised(geometry) else ""
    return f"Small study: {model}, {scaled(parameters)} parameters{coarser}, one model{tail}."


def draw(name: str, inputs: dict, note: str = ""):
    """The matplotlib figure `name` from `inputs` (see `colocate.results.load_inputs`); `note` stands at its foot."""
    import matplotlib

    from colocate.figures.style import STYLE, stamp

    with matplotlib.rc_context(STYLE):
        figure = _module(name, inputs).draw(inputs)
        stamp(figure, note)
        return figure


def table(name: str, inputs: dict):
    """What the figure shows, as a table in full precision: one row a mark."""
    return _module(name, inputs).table(inputs)


def _module(name: str, inputs: dict):
    if name not in FIGURES:
        raise InputError(f"figure {name!r} is unknown; allowed: {', '.join(FIGURES)}")
    missing = [need for need in FIGURES[name].needs if need not in inputs]
    if missing:
        raise InputError(f"figure {name!r} needs the results {', '.join(missing)}, which were not given")
    return importlib.import_module(FIGURES[name].module)


def save(figure, path: str | Path) -> None:
    """Write `figure` as .svg or .pdf (by the suffix), whole or not at all, without a date; SVG places to 1/100 pt."""
    import matplotlib

    from colocate.figures.style import STYLE
    from colocate.files import replacing

    path = Path(path)
    date = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix)
    if date is None:
        raise InputError(f"{path}: a figure is written as .svg or .pdf")
    with matplotlib.rc_context(STYLE), replacing(path) as private:
        figure.savefig(private, format=path.suffix[1:], metadata={date: None})
        if path.suffix == ".svg":  # a third smaller, and pages hold each twice: to see and to save
            text = private.read_text(encoding="utf-8")
            private.write_text(PLACES.sub(lambda part: DECIMALS.sub(_hundredths, part[0]), text), encoding="utf-8")


def _hundredths(number: re.Match) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
