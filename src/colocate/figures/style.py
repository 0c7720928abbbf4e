"""What the figures share: colours, text sizes, the canvas of the page's width, and marks for layers.

Colours are those of Okabe & Ito (2008), which readers with any common form of colour blindness tell apart; position,
shape or a label always says the same thing again. `INK`, `MUTED`, `GRID` and `PAPER` are used for nothing else: the
report replaces them (and the six colours) with those of the reader's light or dark theme. Text on filled marks is
`ON_LIGHT` or `ON_DARK`, which stay.
"""

import textwrap
import zlib

INK, MUTED, GRID, PAPER = "#1f2328", "#646c75", "#d0d7de", "#ffffff"
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
ON_LIGHT, ON_DARK = "#000000", "#fffffe"
SERIES = [BLUE, ORANGE, GREEN, PINK, SKY, RED, INK, MUTED]
MARKERS = "ov^sDP*X"
# One colour an arm in every figure, chart and table; `arm_colour` gives any other arm one by its name.
ARMS = {
    "base": INK,
    "colocated": BLUE,
    "lora_sensitive_garfa_positional": ORANGE,
    "lora_positional_garfa_sensitive": GREEN,
    "positional_both": PINK,
    "random": MUTED,
    "standard_lora": RED,
    "mid_block": SKY,
}
SETS = {"S": BLUE, "R": ORANGE}
WIDE = 30  # values that span a larger factor get a log scale
WIDTH = 675 / 72  # inches; 675 points are 900 CSS pixels
NOTE = 150  # characters of a line of the note at a figure's foot

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "colocate",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it along: the same widths everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "lines.linewidth": 1.4,
}


def arm_colour(arm: str) -> str:
    """The colour of an arm: the same in every figure, whichever other arms a study has."""
    return ARMS.get(arm) or SERIES[zlib.crc32(arm.encode()) % 6]


def arm_marker(arm: str) -> str:
    """The marker of an arm, so that arms which share a colour still differ."""
    names = list(ARMS)
    return MARKERS[(names.index(arm) if arm in ARMS else zlib.crc32(arm.encode()) // 6) % len(MARKERS)]


def stamp(figure, note: str) -> None:
    """What the study is, along the lower edge of a figure, which may be seen without its page."""
    if note:
        lines = textwrap.wrap(note, NOTE)
        height = 0.2 / figure.get_figheight()
        figure.get_layout_engine().set(rect=(0, len(lines) * height, 1, 1 - len(lines) * height))
        for above, line in enumerate(lines, start=1):
            figure.text(0.002, (len(lines) - above + 0.25) * height, line, fontsize=7.5, color=MUTED)


def label(name: str) -> str:
    """A name of the config as a reader sees it."""
    return name.replace("_", " ")


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, a true minus included."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def canvas(height: float, rows: int = 1, columns: int = 1, **keywords):
    """A figure of the page's width, `height` inches high, and its axes as an array (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **keywords)


def panels(count: int, panel_height: float, columns: int, **keywords):
    """Small multiples: a figure and `count` axes in up to `columns` columns; tick labels under the last of each
    column.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = canvas(0.45 + panel_height * rows, rows, columns, **keywords)
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat[max(0, count - columns) : count]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def x_title(axes: list, words: str) -> None:
    """One name for the x axes of `panels`, under the lowest of each column."""
    for axis in axes[-axes[0].get_subplotspec().get_gridspec().ncols :]:
        axis.set_xlabel(words)


def cells_only(axis) -> None:
    """An axis of a heat map: the first row on top, no grid, no frame, no ticks."""
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def message(text: str):
    """A figure that says in words why there is nothing to draw."""
    figure, axes = canvas(0.8)
    axes[0, 0].axis("off")
    axes[0, 0].text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes[0, 0].transAxes)
    return figure


def layer_axis(axis, n_layers: int) -> None:
    """Layers 0 to n_layers - 1 along x, whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_xlim(-0.6, n_layers - 0.4)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def legend(figure, handles: list, columns: int = 4) -> None:
    """A legend above the panels."""
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
