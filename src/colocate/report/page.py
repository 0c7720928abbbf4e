"""What the template needs to print: text as people print it, numbers that do not break, figures inlined."""

import base64
import re
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from colocate import formats as f
from colocate.figures import FIGURES, style
from colocate.report.charts import specification
from colocate.report.table import read

TEMPLATES = Path(__file__).parents[1] / "templates"
# What a reader's theme replaces in a figure: the template gives each name a colour for light and for dark.
THEME = {
    name: getattr(style, name.upper())
    for name in ("ink", "muted", "grid", "paper", "blue", "orange", "green", "pink", "sky", "red")
}


KINDS = {"svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv"}
PLAIN = " !$()*+,-./:;<=>?@[]_{|}~'"  # characters of an SVG that an address in an attribute may have as they are
UNITS = {"min": 60, "h": 3600, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
# The page in a reader's order: sections (key, title) with their topics (key, title). A key is the id of its heading,
# with the model's name before it where the topic is about one model; a section's partial template is named by its key.
OUTLINE = {
    ("question", "The question, and the answer"): {
        ("answer", "The answer"): True,
        ("claims", "Verdict on the published claims"): True,
        ("limits", "What this study cannot say"): True,
        ("background", "What was published"): False,
    },
    ("where", "Where is what"): {
        ("profiles", "Layer profiles"): True,
        ("chosen", "Which layers they choose, and how surely"): True,
        ("correlation", "One profile against the other"): True,
        ("readings", "Other readings of the same quantities"): True,
    },
    ("gains", "What it buys"): {
        ("arms", "What each arm trains"): True,
        ("benchmarks", "Arms and benchmarks"): True,
        ("contrasts", "Contrasts, and what they could have shown"): True,
        ("forgetting", "Change from the untrained model"): True,
        ("cost", "Parameters, time and cost"): True,
    },
    ("learned", "What was learned"): {
        ("alphas", "Learned RoPE scales"): True,
        ("training", "Training and held-out loss"): True,
        ("changes", "What changed, layer by layer"): True,
        ("regret", "Layer gain against each metric"): True,
    },
    ("advice", "What you should do"): {},
    ("print_alone", "From print alone"): {},
    ("method", "How it was done"): {
        ("pairs", "The text pairs"): True,
        ("definitions", "Definitions"): False,
        ("data", "Data"): False,
        ("contamination", "Contamination"): False,
        ("config", "Configuration"): False,
        ("rules", "Rules fixed beforehand"): False,
        ("versions", "Software, machines and seeds"): False,
        ("bill", "What the study took"): False,
        ("caveats", "Limits of the method"): False,
        ("repeat", "How to repeat this"): False,
    },
    ("items", "Item by item"): {},
}


def outline(models: list[dict]) -> list[tuple[str, str, list]]:
    """(key, title, [(key, title, whether of one model)]) of what this page has."""
    absent = {key for key in ("pairs", "items") if not any(model[key] for model in models)}
    sections = []
    for (key, title), topics in OUTLINE.items():
        if key not in absent:
            kept = [(topic, name, own) for (topic, name), own in topics.items() if topic not in absent]
            if key == "question" and len(models) > 1:
                kept.append(("across", "Across models", False))
            sections.append((key, f"{len(sections) + 1}. {title}", kept))
    return sections


def environment():
    """The templates, with this module's filters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(TEMPLATES),
    )
    made.filters |= {"prose": prose, "unbroken": unbroken, "order": order}
    return made


def figures(folder: Path, slug: str, embed: bool) -> dict[str, dict]:
    """Every figure of the registry, as `figure` gives it."""
    return {name: figure(folder, name, slug, embed) for name in FIGURES}


def figure(folder: Path, name: str, slug: str, embed: bool) -> dict:
    """Title, caption, inline SVG, interactive chart and files of one figure; no SVG where it has not been drawn.

    embed    whether its files are part of the page, or links into the folder of results beside it
    """
    entry, paths = FIGURES[name], {kind: folder / f"{name}.{kind}" for kind in KINDS}
    shown = {"id": f"{slug}-figure-{name}", "title": entry.title, "caption": entry.caption}
    there = {kind: path for kind, path in paths.items() if path.is_file()}
    svg = (
        inline_svg(there["svg"].read_text(encoding="utf-8"), f"{slug}-{name}", entry.title) if "svg" in there else None
    )
    table = read(paths["csv"])
    chart = specification(name, table, entry.title)
    links = [(kind.upper(), _address(path, embed), f"{slug}-{path.name}") for kind, path in there.items() if len(table)]
    return shown | {"svg": svg, "chart": chart, "files": links}


def _address(path: Path, embed: bool) -> str:
    """The file as a data: address, or its place as seen from reports/."""
    if not embed:
        return "/".join(["..", *path.parts[path.parts.index("results") :]])
    if path.suffix == ".svg":  # as text: a quarter smaller than base64, and half of the page is figures
        return Markup(f"data:image/svg+xml,{quote(_one_line(path.read_text(encoding='utf-8')), safe=PLAIN)}")
    return f"data:{KINDS[path.suffix[1:]]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _one_line(svg: str) -> str:
    return re.sub(r"\s+", " ", svg)


def swatch(arm: str) -> str:
    """The name of an arm's colour in the page's theme."""
    return next(name for name, colour in THEME.items() if colour == style.arm_colour(arm))


def order(cell: str) -> str:
    """What a column of numbers sorts by: the first number of the cell in its base unit; nothing comes first."""
    found = re.search(r"[\d,]*\.?\d+(?: × 10\^[−\d]+)?", cell)
    if found is None:
        return ""
    number = found.group().replace(",", "").replace(" × 10^", "e").replace(f.MINUS, "-")
    sign = -1 if cell[: found.start()].endswith(f.MINUS) else 1
    unit = cell[found.end() :].strip().partition(" ")[0]
    scale = UNITS.get(unit) or (UNITS.get(unit[:1], 1) if unit[1:] in ("J", "FLOP") else 1)
    return repr(sign * float(number) * scale)


def unbroken(cell: str) -> str:
    """A cell of numbers that breaks before its interval alone."""
    cell = cell.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}(", " (")
    return re.sub(f"(?<=[0-9]){f.NONE}(?=[0-9])", f"\u2060{f.NONE}\u2060", cell)  # word joiners around the dash


def prose(text: str):
    """Text as HTML as people print it: r_s, powers of ten and minus signs set, names of the config as words."""
    from markupsafe import escape

    text = re.sub(r"\br_(s|dis)\b", r"r<sub>\1</sub>", str(escape(text)))
    text = re.sub(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b", lambda name: style.label(name.group()), text)
    text = re.sub(rf"(?<=10)\^([{f.MINUS}-]?\d+)", r"<sup>\1</sup>", text)
    return Markup(re.sub(r"(?<![\w.)])-(?=\d)", f.MINUS, text))


def inline_svg(text: str, prefix: str, title: str) -> str:
    """A stand-alone SVG as an element of the page: own ids, an accessible name, colours of the theme, no fixed size."""
    text = text[text.index("<svg") :]
    text = _one_line(re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL))
    for before in (' id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{prefix}-")
    for name, colour in THEME.items():
        text = re.sub(rf"(?<=: ){colour}\b", f"var(--{name})", text)
    opening = text[: text.index(">")]
    viewbox = re.search(r'viewBox="[^"]+"', opening).group()
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {namespaces} {viewbox} role="img" aria-label="{title}"'
    return head + text[len(opening) :]
