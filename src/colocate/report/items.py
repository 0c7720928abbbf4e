"""Item level: the items on which two arms differ, with what was asked and what each arm answered.

Two arms differ on an item where the share of their seeds that answered it rightly differs. The page shows the default
pairs (the reference arm against base, and against standard LoRA) as tables, and brings the answers of all arms along,
so that a reader may choose any other pair. All of it is bounded: items come benchmark by benchmark in turn, those
whose arms differ most first, until the budget of the page is spent, and the page says how many of how many it holds.

Source: `evaluations/{arm}/seed{seed}/{benchmark}.items.parquet`. Of a private benchmark, and of one that the config
does not know, no text and no item is read at all: only how many items differ.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from colocate.figures.style import label
from colocate.report.outside_text import shown
from colocate.results import LAYOUT, find, reference_contrasts

PATTERN = "evaluations"  # of colocate.results.LAYOUT: the items lie beside the summaries
AGAINST = ("base", "standard_lora")
BUDGET = 900_000  # bytes of items that the page brings along
ROWS = 12  # of one benchmark in the table of a default pair
ANSWER, PROMPT, TARGET = 300, 600, 200  # characters


@dataclass(frozen=True)
class Difference:
    """One item of a default pair: marks are (right, answer) by seed of each arm; `gap` b less a, in shares of seeds."""

    benchmark: str
    item: str
    prompt: str
    target: str
    a: list[tuple[bool, str]]
    b: list[tuple[bool, str]]


@dataclass(frozen=True)
class Pair:
    """Two arms: what the page shows of how many items on which they differ, by benchmark, and the items."""

    a: str
    b: str
    counts: list[tuple[str, int, int, int, str]]  # benchmark, items, a alone right, b alone right, note
    rows: list[Difference]
    total: int


def section(
    folder: str | Path, select: dict[str, Iterable], benchmarks: dict[str, dict], contrasts, budget: int = BUDGET
) -> dict | None:
    """What `items.html.j2` shows of one model; None where no arm has items.

    folder      results/{study}/{model}
    select      {wildcard: names}, as for colocate.results.load_inputs
    benchmarks  the config's entries: `private` decides what may be shown
    contrasts   contrasts.csv, for the reference arm
    """
    files = _files(Path(folder), select)
    if not files:
        return None
    arms = _in_order({arm for arm, _, _ in files}, select.get("arm"))
    names = _in_order({benchmark for _, _, benchmark in files}, select.get("benchmark"))
    public = [name for name in names if name in benchmarks and not benchmarks[name].get("private")]
    right = {name: _right(files, name) for name in names}
    reference, _ = reference_contrasts(contrasts)
    pairs = [(reference, other) for other in AGAINST if reference in arms and other in arms and other != reference]
    pairs = pairs or ([(arms[1], arms[0])] if len(arms) > 1 else [])
    chosen, n_differing = _chosen({name: right[name] for name in public}, pairs)
    texts, kept = _within(files, chosen, budget)
    return {
        "arms": [(arm, label(arm)) for arm in arms],
        "benchmarks": [(name, label(name)) for name in public],
        "pairs": [_pair(a, b, right, public, texts, kept) for a, b in pairs],
        "n_kept": sum(map(len, kept.values())),
        "n_differing": sum(n_differing.values()),
        "private": [label(name) for name in names if name not in public],
        "data": _data(arms, public, texts, kept, n_differing),
    }


def _files(folder: Path, select: dict[str, Iterable]) -> dict[tuple[str, int, str], Path]:
    """{(arm, seed, benchmark): its items} of every evaluation that was run."""
    ending = LAYOUT[PATTERN].removesuffix(".json").rpartition("}")[2]
    found = {}
    for names, path in find(folder, PATTERN, select):
        items = path.with_name(f"{names['benchmark']}{ending}.items.parquet")
        if items.is_file():
            found[names["arm"], int(names["seed"]), names["benchmark"]] = items
    return found


def _in_order(names: set[str], order: Iterable | None) -> list[str]:
    first = [name for name in order or ["base"] if name in names]
    return first + sorted(names - set(first))


def _right(files: dict, benchmark: str):
    """Share of an arm's seeds that are right: one row an item, one column an arm; NaN where an arm has no such item."""
    import pandas as pd

    parts = []
    for (arm, _, name), path in files.items():
        if name == benchmark:
            parts.append(pd.read_parquet(path, columns=["item", "correct"]).drop_duplicates("item").assign(arm=arm))
    table = pd.concat(parts, ignore_index=True).astype({"correct": float})
    wide = table.pivot_table(index="item", columns="arm", values="correct", aggfunc="mean")
    return wide.reindex(table["item"].drop_duplicates())


def _differs(right, a: str, b: str):
    """Share of seeds, b less a, of the items on which they differ; those that differ most first."""
    if a not in right or b not in right:
        return right.iloc[:0, 0] if right.shape[1] else right
    gap = (right[b] - right[a]).dropna()
    gap = gap[gap != 0]
    return gap.loc[gap.abs().sort_values(ascending=False, kind="stable").index]


def _chosen(right: dict, pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Items on which any two arms differ, in the order in which they get a place: first those of the default pairs."""
    chosen, count = {}, {}
    for name, table in right.items():
        spread = table.max(axis=1) - table.min(axis=1)
        spread = spread[spread > 0].sort_values(ascending=False, kind="stable")
        first = [item for a, b in pairs for item in _differs(table, a, b).index[:ROWS]]
        chosen[name] = list(dict.fromkeys([*first, *spread.index]))
        count[name] = len(spread)
    return chosen, count


def _within(files: dict, chosen: dict[str, list[str]], budget: int) -> tuple[dict, dict[str, list[str]]]:
    """Texts of the items that the budget holds: {benchmark: {item: texts}}, and their names by benchmark."""
    share = budget // max(1, len(chosen))
    texts, kept = {}, {}
    for name, items in chosen.items():
        runs = {key: path for key, path in files.items() if key[2] == name}
        items = items[: share // (len(runs) * 8 + 40)]  # not even empty answers would fit more
        found = _texts(runs, items)
        kept[name], spent = [], 0
        for item in items:
            size = len(json.dumps(found[item], ensure_ascii=True))
            if spent + size > share and kept[name]:
                break
            spent += size
            kept[name].append(item)
        texts[name] = {item: found[item] for item in kept[name]}
    return texts, kept


def _texts(runs: dict, items: Sequence[str]) -> dict[str, dict]:
    """{item: {prompt, target, answers: {arm: [[right, answer], one a seed]}}}, read for these items alone."""
    import pyarrow.parquet

    found = {item: {"prompt": "", "target": "", "answers": {}} for item in items}
    for (arm, _, _), path in runs.items():
        columns = ["item", "correct", "prediction", "prompt", "target"]
        table = pyarrow.parquet.read_table(path, columns=columns, filters=[("item", "in", list(items) or [""])])
        seen = set()
        for row in table.to_pylist():
            if row["item"] in seen:
                continue
            seen.add(row["item"])
            entry = found[row["item"]]
            entry["prompt"] = entry["prompt"] or shown(row["prompt"], PROMPT, keep="end")
            entry["target"] = entry["target"] or shown(row["target"], TARGET)
            answer = [int(bool(row["correct"])), shown(row["prediction"], ANSWER)]
            entry["answers"].setdefault(arm, []).append(answer)
    return found


def _pair(a: str, b: str, right: dict, public: Sequence[str], texts: dict, kept: dict) -> Pair:
    counts, rows, total = [], [], 0
    for name, table in right.items():
        gap = _differs(table, a, b)
        absent = [arm for arm in (a, b) if arm not in table]
        both = 0 if absent else int(table[[a, b]].notna().all(axis=1).sum())
        note = f"{' and '.join(map(label, absent))}: not evaluated" if absent else ""
        counts.append((label(name), both, int((gap < 0).sum()), int((gap > 0).sum()), note))
        if name not in public:
            continue
        total += len(gap)
        for item in [item for item in gap.index if item in texts[name]][:ROWS]:
            entry = texts[name][item]
            answers = [[(bool(mark), text) for mark, text in entry["answers"].get(arm, [])] for arm in (a, b)]
            rows.append(Difference(label(name), item, entry["prompt"], entry["target"], *answers))
    return Pair(label(a), label(b), counts, rows, total)


def _data(arms: Sequence[str], public: Sequence[str], texts: dict, kept: dict, n_differing: dict) -> str:
    """The items as JSON for a script element: no `<`, `>` or `&`, so that nothing in it can end the element."""
    benchmarks = {
        name: {
            "label": label(name),
            "differing": n_differing[name],
            "items": [{"item": item} | texts[name][item] for item in kept[name]],
        }
        for name in public
    }
    text = json.dumps({"arms": {arm: label(arm) for arm in arms}, "benchmarks": benchmarks}, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
