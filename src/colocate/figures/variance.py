"""Share of the variance of r_s over all readings that each choice of definition explains: alone, and uniquely."""

from colocate.figures.style import BLUE, SKY, canvas, label, message


def draw(inputs: dict):
    rows = table(inputs)
    if not len(rows):
        return message("No choice of definition has been made in more than one way, so none explains anything.")
    figure, axes = canvas(0.9 + 0.34 * len(rows))
    axis = axes[0, 0]
    for shift, column, colour, words in ((-0.18, "alone", BLUE, "alone"), (0.18, "unique", SKY, "beyond all others")):
        places = [y + shift for y in range(len(rows))]
        axis.barh(places, 100 * rows[column], 0.34, color=colour, label=words)
    names = [f"{label(row['choice'])} ({row['levels']} ways)" for row in rows.to_dict("records")]
    axis.set_yticks(range(len(rows)), names)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("share of the variance of the rank correlation (%)")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def table(inputs: dict):
    """choice, levels, alone, unique (shares of 1), the largest first."""
    import pandas as pd

    choices = (inputs["specification_curve"].get("variance_of_r_s") or {}).get("choices") or {}
    rows = [{"choice": name} | share for name, share in choices.items()]
    return pd.DataFrame(rows).sort_values("alone", ascending=False, ignore_index=True) if rows else pd.DataFrame()
