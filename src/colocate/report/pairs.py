"""The text pairs of the study, each with its own sensitivity profile over the layers: a table that can be searched.

A profile of one pair is drawn as a line from the first layer to the last, its height a share of that pair's own
largest value: its shape can be compared with the others', its size is the number beside it. Source: the pairs as the
study read them, and `profiles/{primary sensitivity}.items.parquet`. A pair that was not measured (the limit of a small
study) has no line.
"""

from dataclasses import dataclass
from pathlib import Path

from colocate import formats as f
from colocate import pairs as data_of_pairs
from colocate.figures.style import label
from colocate.report.outside_text import shown
from colocate.results import primary_pair

MOST = 400  # rows of the table; a study of more pairs shows these
WIDTH, HEIGHT = 120, 24  # of a line, in the units of its own drawing


@dataclass(frozen=True)
class Line:
    """A profile as the points of a polyline, its largest value and the layer that has it."""

    points: str
    peak: str
    layer: int
    n_layers: int


@dataclass(frozen=True)
class Row:
    """One pair; `line` is None where it was not measured."""

    id: str
    prompt: str
    correct: str
    incorrect: str
    domain: str
    language: str
    line: Line | None


def section(folder: str | Path, config: dict, correlations) -> dict | None:
    """What `pairs.html.j2` shows of one model; None where the config names no file of pairs that is there."""
    name = primary_pair(correlations)[0] or config.get("statistics", {}).get("primary_sensitivity")
    files = pair_files(Path(folder), config, name)
    if not files:
        return None
    found = data_of_pairs.read_pairs(files)
    lines, mean = _lines(Path(folder) / f"profiles/{name}.items.parquet")
    rows = [_row(pair, lines.get(pair.id)) for pair in found]
    rows.sort(key=lambda row: row.line is None)  # stable: those that were measured first
    return {
        "profile": label(name) if name else "",
        "rows": rows[:MOST],
        "n": len(rows),
        "n_measured": sum(row.line is not None for row in rows),
        "mean": mean,
        "domains": sorted({row.domain for row in rows}),
        "languages": sorted({row.language for row in rows}),
        "width": WIDTH,
        "height": HEIGHT,
    }


def pair_files(folder: Path, config: dict, profile: str | None) -> list[Path]:
    """The files of the pairs that a profile was measured on: those made for this model, or those of the config."""
    entry = config.get("profiles", {}).get(profile) or {}
    made = folder / "pairs/made.jsonl"
    files = [made] if entry.get("pairs") == "made" else map(Path, config.get("pairs", {}).get("files", []))
    return [path for path in files if path.is_file()]


def _row(pair: data_of_pairs.Pair, line: Line | None) -> Row:
    texts = (shown(text, characters) for text, characters in ((pair.prompt, 600), (pair.correct, 200)))
    return Row(pair.id, *texts, shown(pair.incorrect, 200), label(pair.domain), pair.language, line)


def _lines(path: Path) -> tuple[dict[str, Line], Line | None]:
    """Each item's line, and that of their mean."""
    import pandas as pd

    if not path.is_file():
        return {}, None
    table = pd.read_parquet(path, columns=["item", "layer", "value"])
    wide = table.pivot_table(index="item", columns="layer", values="value", aggfunc="mean").sort_index(axis=1)
    lines = {str(item): line(row.to_dict()) for item, row in wide.iterrows()}
    return {item: one for item, one in lines.items() if one}, line(wide.mean().to_dict()) if len(wide) else None


def line(values: dict[int, float]) -> Line | None:
    """The line of {layer: value}, a gap where a value is missing closed; None where no layer has one."""
    known = {int(layer): float(value) for layer, value in values.items() if not f.missing(float(value))}
    if not known:
        return None
    first, last, top = min(values), max(values), max(known.values())
    step = WIDTH / max(1, last - first)
    scale = (HEIGHT - 2) / top if top > 0 else 0.0
    points = " ".join(f"{(at - first) * step:.0f},{HEIGHT - 1 - max(0.0, v) * scale:.1f}" for at, v in known.items())
    peak = max(known, key=known.__getitem__)
    return Line(points, f.number(top), peak, len(values))
