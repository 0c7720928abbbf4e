"""Interactive charts: the numbers of a figure with hover values, a choice of metric, arms that can be switched off.

`CHARTS[name]` makes the Vega-Lite specification of one figure out of its own table (`colocate.figures.table`) with
Altair; the page draws it where the reader opens it, beside the static figure, which stays for print and for readers
without JavaScript. Colours are the page's variables, so that a chart follows the reader's theme.
"""

import json
import math
from collections.abc import Callable

from colocate.figures import style
from colocate.figures.specification_curve import CHOICES
from colocate.figures.style import label

HEIGHT = 300  # pixels
THEME_NAMES = {
    getattr(style, name.upper()): f"var(--{name})"
    for name in ("ink", "muted", "blue", "orange", "green", "pink", "sky", "red")
}


def specification(name: str, table, title: str = "") -> str | None:
    """The chart of a figure as JSON that is safe inside a script element; None where it has no chart or no rows.

    title    what a screen reader calls the chart
    """
    if name not in CHARTS or not len(table):
        return None
    spec = CHARTS[name](table).to_dict()
    spec.pop("$schema", None)  # an address: nothing on this page names a host
    spec |= {"config": CONFIG, "description": title}
    return json.dumps(spec, sort_keys=True, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    **dict.fromkeys(("area", "bar", "line", "rule"), {"aria": False}),  # what is read out are the dots, each a value
    "axis": {
        **dict.fromkeys(("labelColor", "titleColor"), "var(--ink)"),
        **dict.fromkeys(("domainColor", "tickColor"), "var(--muted)"),
        "gridColor": "var(--grid)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 260,
    },
    "axisX": {"labelFlush": False, "labelSeparation": 6, "titleAnchor": "end"},  # beside long names there is no middle
    "legend": {
        **dict.fromkeys(("labelColor", "titleColor", "symbolBaseFillColor", "symbolBaseStrokeColor"), "var(--ink)"),
        **{"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 320, "orient": "bottom"},
        "gradientStrokeColor": "var(--grid)",
        "columns": {"expr": "width < 480 ? 1 : 3"},  # a phone has room for one
    },
}


def _records(table, columns: list[str]) -> list[dict]:
    """Rows as plain values: no NaN, which JSON has not, and names as words."""

    def plain(value):
        if isinstance(value, str):
            return value
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    rows = table[[column for column in columns if column in table]].to_dict("records")
    return [{key: plain(value) for key, value in row.items()} for row in rows]


def _chart(rows: list[dict]):
    import altair as alt

    return alt.Chart(alt.InlineData(values=rows)).properties(width="container", height=HEIGHT)


def _named(table, column: str):
    return table.assign(**{column: table[column].map(label)})


def _menu(names: list[str], words: str, name: str = "menu"):
    """A drop-down list of `names`, the first chosen, as a parameter."""
    import altair as alt

    return alt.param(name, value=names[0], bind=alt.binding_select(options=names, name=f"{words}: "))


def _arm_colours(arms: list[str]):
    """One colour an arm; a click on its name in the legend switches the others off."""
    import altair as alt

    colours = [THEME_NAMES[style.arm_colour(arm)] for arm in arms]
    return alt.Color("arm:N", scale=alt.Scale(domain=[label(arm) for arm in arms], range=colours), title=None)


def profiles(table):
    import altair as alt

    names = [label(name) for name in dict.fromkeys(table["profile"])]
    rows = _records(
        _named(table, "profile"), ["profile", "layer", "value", "ci_low", "ci_high", "n", "noise_floor", "chosen"]
    )
    menu = _menu(names, "Metric")
    base = _chart(rows).transform_filter(alt.datum.profile == menu)
    x = _depth()
    y = alt.Y("value:Q", title="value, 95 % interval", scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.2, color="var(--ink)").encode(x, alt.Y("ci_low:Q", title=""), alt.Y2("ci_high:Q"))
    line = base.mark_line(color="var(--ink)").encode(x, y)
    floor = base.mark_line(color="var(--red)", strokeDash=[5, 4]).transform_calculate(floor="3 * datum.noise_floor")
    floor = floor.transform_filter("datum.noise_floor != null").encode(x, alt.Y("floor:Q"))
    told = [
        _told("layer", "layer"),
        _told("value", "value"),
        _told("ci_low", "from"),
        _told("ci_high", "to"),
        _told("n", "items"),
    ]
    colour = alt.condition("datum.chosen", alt.value("var(--blue)"), alt.value("var(--ink)"))
    dots = base.mark_circle(size=70, opacity=1).encode(x, y, color=colour, tooltip=told)
    return alt.layer(band, line, floor, dots).add_params(menu)


def _told(field: str, title: str, form: str = ".4~g"):
    import altair as alt

    return alt.Tooltip(f"{field}:Q", title=title, format=form)


def _depth():
    import altair as alt

    return alt.X("layer:Q", title="layer", axis=alt.Axis(tickMinStep=1), scale=alt.Scale(nice=False))


def _bounds() -> list:
    return [_told("ci_low", "from"), _told("ci_high", "to")]


def correlation(table):
    """The two primary profiles, as ranks or given depth."""
    import altair as alt

    kinds = {"as ranks": "rank", "as ranks, given depth": "residual"}
    rows = []
    for words, kind in kinds.items():
        moved = table.assign(kind=words, sensitivity=table["x"], rope=table["y"])
        moved = moved.assign(x=table[f"x_{kind}"], y=table[f"y_{kind}"])
        rows += _records(moved, ["kind", "layer", "sensitivity", "rope", "x", "y"])
    menu = _menu(list(kinds), "Shown")
    base = _chart(rows).transform_filter(alt.datum.kind == menu)
    told = [_told("layer", "layer"), _told("sensitivity", "sensitivity"), _told("rope", "RoPE influence")]
    scale = alt.Scale(zero=False)
    dots = base.mark_circle(size=90, opacity=1, stroke="var(--muted)", strokeWidth=1).encode(
        alt.X("x:Q", title="sensitivity", scale=scale),
        alt.Y("y:Q", title="RoPE influence", scale=scale),
        alt.Color("layer:Q", scale=alt.Scale(scheme="cividis"), title="layer"),
        tooltip=told,
    )
    return dots.add_params(menu)


def specification_curve(table):
    import altair as alt

    choices = [name for name in CHOICES if name in table and table[name].nunique() > 1]
    table = table.assign(place=range(len(table)), **{name: table[name].astype(str).map(label) for name in choices})
    rows = _records(table, ["place", "r_s", "partial_r_s", "p_depth", *choices])
    menu = _menu(choices, "Coloured by") if choices else None
    told = [_told("r_s", "rank correlation"), _told("partial_r_s", "given depth"), _told("p_depth", "p given depth")]
    told += [alt.Tooltip(f"{name}:N", title=label(name)) for name in choices]
    base, title = _chart(rows), "readings, sorted by their rank correlation"
    colour = alt.Color(
        "choice:N", title=None, scale=alt.Scale(range=list(THEME_NAMES.values())[2:] + ["var(--ink)", "var(--muted)"])
    )
    if menu is not None:
        base = base.transform_calculate(choice=f"datum[{menu.name}]").add_params(menu)
    dots = base.mark_circle(size=45, opacity=0.9).encode(
        alt.X("place:Q", title=title, axis=alt.Axis(grid=False, tickMinStep=1), scale=alt.Scale(nice=False)),
        alt.Y("r_s:Q", title="rank correlation", scale=alt.Scale(domain=[-1, 1])),
        tooltip=told,
    )
    return dots.encode(colour) if menu is not None else dots.encode(color=alt.value("var(--blue)"))


def arms(table):
    """Contrasts of the reference arm, with the smallest detectable difference behind them."""
    import altair as alt

    words = {"accuracy": ("composite accuracy (points)", 100), "heldout_loss": ("held-out loss (nat per token)", 1)}
    factor = table["outcome"].map({name: factor for name, (_, factor) in words.items()})
    scaled = {key: factor * table[key] for key in ("difference", "ci_low", "ci_high", "mde")}
    outcomes = table["outcome"].map({name: said for name, (said, _) in words.items()})
    named = table.assign(**scaled, mde_low=-scaled["mde"], outcome=outcomes, arm=table["arm_b"].map(label))
    rows = _records(named, ["arm", "outcome", "difference", "ci_low", "ci_high", "mde", "mde_low", "p", "family"])
    names = list(dict.fromkeys(row["outcome"] for row in rows))
    menu = _menu(names, "Outcome")
    base = _chart(rows).transform_filter(alt.datum.outcome == menu).properties(height=28 * table["arm_b"].nunique())
    y = alt.Y("arm:N", sort=None, title=None, axis=alt.Axis(grid=False))
    told = [
        alt.Tooltip("arm:N", title="minus"),
        _told("difference", "difference"),
        _told("ci_low", "from"),
        _told("ci_high", "to"),
    ]
    told += [_told("p", "p"), _told("mde", "smallest detectable"), alt.Tooltip("family:N", title="family")]
    power = base.mark_bar(color="var(--grid)", height=14).encode(alt.X("mde_low:Q", title=""), alt.X2("mde:Q"), y)
    zero = alt.Chart(alt.InlineData(values=[{"at": 0}])).mark_rule(color="var(--ink)").encode(alt.X("at:Q", title=""))
    colours = _arm_colours(list(dict.fromkeys(table["arm_b"]))).legend(None)
    title = f"{label(table['arm_a'].iloc[0])} minus the other arm"
    line = base.mark_rule(strokeWidth=2).encode(alt.X("ci_low:Q", title=title), alt.X2("ci_high:Q"), y, colours)
    dots = base.mark_circle(size=110, opacity=1).encode(alt.X("difference:Q"), y, colours, tooltip=told)
    return alt.layer(power, zero, line, dots).add_params(menu)


def training(table):
    import altair as alt

    rows = _records(_named(table, "arm"), ["arm", "seed", "split", "loss", "tokens"])
    for row in rows:
        row["run"] = f"{row['arm']}, seed {row['seed']}"
    told = [alt.Tooltip("run:N", title="run"), _told("tokens", "tokens", ","), _told("loss", "loss (nat per token)")]
    x = alt.X("tokens:Q", title="training tokens")
    lines = _lines_of_arms(table, rows, "split", "Split", x, alt.Y("loss:Q", title="loss (nat per token)"))
    return lines.encode(detail="run:N", tooltip=told)


def changes(table):
    import altair as alt

    rows = _records(_named(_named(table, "arm"), "metric"), ["arm", "metric", "layer", "value", "n_seeds"])
    told = [alt.Tooltip("arm:N", title="arm"), _told("layer", "layer"), _told("value", "value")]
    lines = _lines_of_arms(table, rows, "metric", "Measure", _depth(), alt.Y("value:Q", title="mean over seeds"))
    return lines.encode(tooltip=[*told, _told("n_seeds", "seeds")])


def _lines_of_arms(table, rows: list[dict], kind: str, words: str, x, y):
    """A line an arm; a menu chooses among the values of the column `kind`; another, or a click in the legend, the arm
    that is seen alone.
    """
    import altair as alt

    menu = _menu(list(dict.fromkeys(row[kind] for row in rows)), words)
    arms, every = list(dict.fromkeys(table["arm"])), "all"
    clicked = alt.selection_point("arms", fields=["arm"], bind="legend", toggle="true")  # a second click takes it back
    named = _menu([every, *map(label, arms)], "Arm", "named")  # the legend cannot be reached by keyboard
    lines = _chart(rows).properties(name="arms_by_" + kind).transform_filter(alt.datum[kind] == menu)
    nothing_named = {"and": [{"param": "arms"}, f"named == '{every}'"]}
    seen = {"or": ["datum.arm == named", {"param": "arms", "empty": False}, nothing_named]}
    shown = alt.condition(alt.PredicateComposition(seen), alt.value(1), alt.value(0.08))
    marked = lines.mark_line(point=alt.OverlayMarkDef(size=28)).add_params(menu, named, clicked)
    return marked.encode(x, y.scale(zero=False), _arm_colours(arms), opacity=shown)


def alphas(table):
    import altair as alt

    names = [label(name) for name in dict.fromkeys(table["arm"])]
    rows = _records(_named(table, "arm"), ["arm", "seed", "layer", "kv_head", "alpha"])
    menu = _menu(names, "Arm")
    base = _chart(rows).transform_filter(alt.datum.arm == menu)
    told = [_told("layer", "layer"), _told("kv_head", "KV head"), _told("seed", "seed"), _told("alpha", "α", ".5f")]
    heads = alt.Color("kv_head:N", title="KV head", scale=alt.Scale(range=list(THEME_NAMES.values())[2:]))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        _depth(),
        alt.Y("alpha:Q", title="α (log scale)", scale=alt.Scale(type="log", nice=False)),
        heads,
        alt.Shape("seed:N", title="seed"),
        tooltip=told,
    )
    return dots.add_params(menu)


def coefficients(table):
    """The coefficient of each model (table of `colocate.statistics.across.compare`), with the means over families."""
    import altair as alt

    every, means = "all", "mean over families"
    named = table[table["r_dis"].notna()].assign(family=table["family"].fillna(means))
    columns = ["model", "family", "attention", "n_params", "n_layers", "r_s", "r_dis", "ci_low", "ci_high", "p_depth"]
    rows = _records(named, columns)
    families = list(dict.fromkeys(row["family"] for row in rows if row["family"] != means))
    menu = _menu([every, *families], "Family")
    base = _chart(rows).properties(height=32 * max(3, len(rows)))
    base = base.transform_filter((menu == every) | (alt.datum.family == menu) | (alt.datum.family == means))
    y = alt.Y("model:N", sort=None, title=None, axis=alt.Axis(grid=False))
    told = [alt.Tooltip(f"{name}:N", title=name) for name in ("model", "family", "attention")]
    told += [_told("n_params", "parameters", ".3~s"), _told("n_layers", "layers"), _told("r_s", "as measured")]
    told += [_told("r_dis", "without item noise"), *_bounds(), _told("p_depth", "p given depth")]
    title = ["rank correlation of sensitivity and RoPE influence,", "without item noise"]
    scale = alt.Scale(domain=[-1, 1], clamp=True)
    line = base.mark_rule(strokeWidth=2).encode(alt.X("ci_low:Q", title=title, scale=scale), alt.X2("ci_high:Q"), y)
    zero = alt.Chart(alt.InlineData(values=[{"at": 0}])).mark_rule(color="var(--muted)").encode(alt.X("at:Q", title=""))
    shape = alt.condition(alt.datum.family == means, alt.value("diamond"), alt.value("circle"))
    colour = alt.condition(alt.datum.family == means, alt.value("var(--red)"), alt.value("var(--blue)"))
    dots = base.mark_point(filled=True, size=110, opacity=1).encode(
        alt.X("r_dis:Q", title=title, scale=scale), y, shape=shape, color=colour, tooltip=told
    )
    return alt.layer(zero, line.encode(color=alt.value("var(--ink)")), dots).add_params(menu)


CHARTS: dict[str, Callable] = {
    function.__name__: function
    for function in (profiles, correlation, specification_curve, arms, training, changes, alphas, coefficients)
}
