"""The training mixture: rows drawn from each source, split, and (if asked) without those that a benchmark asks.

    kind      rows
    builtin   data/instructions, which has its splits fixed
    jsonl     your own file or folder, in any schema of colocate.instructions
    hub       a data set of the hub, by id, out of the folder where `fetch` or a mirror has it

Three JSONL files (train, validate, test) in the form of colocate.instructions, and dropped.csv: the rows that were left
out of train for what they share with a test item (colocate.contamination).
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from colocate import hub_data, instructions
from colocate import rows as data_rows
from colocate.errors import InputError
from colocate.files import write_csv, write_text
from colocate.instructions import SPLITS, question, read_rows

BUILTIN = Path(__file__).resolve().parents[2] / "data" / "instructions"
KEYS = {
    "builtin": {"kind", "n", "heldout", "name"},
    "jsonl": {"kind", "n", "heldout", "name", "path"},
    "hub": {"kind", "n", "heldout", "name", "dataset", "files"},
}
HELDOUT = 60
SPARE = 4  # rows that are read for each row that is wanted: some are of no use, or of a group that is elsewhere
DROPPED = ["item", "source", "reference", "reference_item", "ngram"]
log = logging.getLogger("colocate")


def build_mixture(
    sources: list[dict],
    seed: int,
    out_dir: str | Path,
    *,
    datasets_dir: str | Path = hub_data.FETCHED,
    hits: Callable[[dict], Sequence[tuple]] | None = None,
) -> dict[str, int]:
    """Draw from each source and write `out_dir`/{train,validate,test}.jsonl, dropped.csv; returns the rows of each.

    A source is {"kind": "builtin" | "jsonl" | "hub", "path": file or folder (jsonl), "dataset": hub id below
    `datasets_dir` (hub), "n": training rows (default all that are left), "heldout": rows of validate and of test, each
    (default 60), "name": label (default the file's or data set's name)}. The built-in data has its splits fixed,
    template by template, and templates take turns: a small `n` has as many of them as it can. Other sources are
    shuffled: the first groups go to test, then validate, then train. No group and no question is in two splits,
    whichever source it comes from. Deterministic given `seed`; a source's draw does not depend on other sources unless
    they share questions.

    `hits(row)`: what a row shares with test items, as (reference, reference_item, ngram); such a row is not taken for
    train, and the next one is.
    """
    mixture = {split: [] for split in SPLITS}
    owner: dict[str, str] = {}  # group or question -> the split that has it
    seen: set[str] = set()  # questions taken: a second copy is dropped
    dropped: list[list] = []
    for number, source in enumerate(sources):
        rows, fixed = _read_source(source, number, seed, datasets_dir)
        heldout = source.get("heldout", HELDOUT)
        wanted = {"test": heldout, "validate": heldout, "train": source.get("n")}
        order = np.random.default_rng([seed, number]).permutation(len(rows))
        if fixed:
            order = _in_turns(order, [row["template"] for row in rows])
        taken = {split: [] for split in wanted}
        for row in (rows[index] for index in order):
            keys = {"group " + row["group"], "question " + question(row)}
            owners = {owner[key] for key in keys if key in owner} | ({fixed[row["id"]]} if fixed else set())
            open_splits = [split for split, n in wanted.items() if n is None or len(taken[split]) < n]
            split = owners.pop() if owners else next(iter(open_splits), None)
            if owners or split not in open_splits or question(row) in seen:
                continue
            if split == "train" and hits is not None and (found := hits(row)):
                dropped += [[row["id"], row["source"], *hit] for hit in found]
                continue
            owner |= dict.fromkeys(keys, split)
            seen.add(question(row))
            taken[split].append(row)
        for split, n in wanted.items():
            if len(taken[split]) < (n or 1):
                raise InputError(
                    f"sources[{number}] ({rows[0]['source']}): {split} has {len(taken[split])} of "
                    f"{n or 'at least 1'} rows; the source holds {len(rows)} rows in "
                    f"{len({row['group'] for row in rows})} groups: lower n or heldout"
                )
            mixture[split] += taken[split]
    ids = Counter(row["id"] for rows in mixture.values() for row in rows)
    if double := next((name for name, count in ids.items() if count > 1), None):
        raise InputError(f"sources: id {double!r} occurs twice; give each source its own `name`, each row its own id")
    for index, (split, rows) in enumerate(mixture.items()):
        order = np.random.default_rng([seed, len(sources), index]).permutation(len(rows))
        lines = [json.dumps(rows[i], ensure_ascii=False, sort_keys=True) + "\n" for i in order]
        write_text(Path(out_dir) / f"{split}.jsonl", "".join(lines))
    _write_dropped(dropped, Path(out_dir) / "dropped.csv")
    return {split: len(rows) for split, rows in mixture.items()}


def _write_dropped(dropped: list[list], out: Path) -> None:
    import pandas as pd

    write_csv(out, pd.DataFrame(dropped, columns=DROPPED))


def _in_turns(order, templates: list[str]) -> list[int]:
    """The same rows, first one of each template, then a second of each, and so on."""
    met = Counter()
    turn = {}
    for index in order:
        turn[index] = met[templates[index]]
        met[templates[index]] += 1
    return sorted(order, key=turn.__getitem__)


def _read_source(source: dict, number: int, seed: int, datasets_dir) -> tuple[list[dict], dict[str, str]]:
    """Rows of one source, and {id: split} where the source itself fixes its splits."""
    where = f"sources[{number}]"
    kind = source.get("kind")
    if kind not in KEYS:
        raise InputError(f"{where}.kind: found {kind!r}, allowed: {', '.join(KEYS)}")
    if unknown := sorted(source.keys() - KEYS[kind]):
        allowed = ", ".join(sorted(KEYS[kind]))
        raise InputError(f"{where}: unknown key {unknown[0]!r}, allowed for kind {kind}: {allowed}")
    for key in ("n", "heldout"):
        if key in source and not (isinstance(source[key], int) and source[key] > 0):
            raise InputError(f"{where}.{key}: found {source[key]!r}, expected a number of rows above 0")
    if kind == "jsonl":
        if "path" not in source:
            raise InputError(f"{where}.path: missing; kind jsonl needs a file or a folder")
        return read_rows(source["path"], source.get("name")), {}
    if kind == "hub":
        if "dataset" not in source:
            raise InputError(f"{where}.dataset: missing; kind hub needs the id of a data set, as meta-math/MetaMathQA")
        return _hub_rows(source, np.random.default_rng([seed, number, 1]), datasets_dir), {}
    rows, fixed = [], {}
    for split in SPLITS:
        part = read_rows(BUILTIN / f"{split}.jsonl")
        rows += part
        fixed |= {row["id"]: split for row in part}
    return rows, fixed


def _hub_rows(source: dict, rng: np.random.Generator, datasets_dir) -> list[dict]:
    """Rows of a hub data set: all, or with `n` a random part that is some times as large as what is wanted.

    Rows that fit no schema (an empty answer, turns out of order) are left out and counted in the log: nobody who mixes
    a million rows can mend them. Most must fit.
    """
    dataset = source["dataset"]
    name = source.get("name", dataset.rpartition("/")[2])
    place = hub_data.folder(dataset, datasets_dir)
    files = data_rows.files_of(place)
    if "files" in source:
        files = [file for file in files if file.relative_to(place).match(source["files"])]
        if not files:
            raise InputError(f"{place}: no data file matches {source['files']!r} (mixture.sources: files)")
    chosen = None
    if "n" in source:
        total = sum(1 for file in files for _ in data_rows.read(file))
        size = SPARE * (source["n"] + 2 * source.get("heldout", HELDOUT))
        chosen = set(rng.choice(total, size, replace=False).tolist()) if size < total else None
    rows, unfit = [], []
    everything = (pair for file in files for pair in data_rows.read(file))
    for number, (where, raw) in enumerate(everything):
        if chosen is None or number in chosen:
            try:
                rows.append(instructions.as_row(raw, where, name, number))
            except InputError as error:
                unfit.append(str(error))
    if len(unfit) > len(rows):
        raise InputError(
            f"{dataset}: {len(unfit)} of {len(unfit) + len(rows)} rows are of no use; the first: {unfit[0]}"
        )
    if unfit:
        log.info("%s: %d of %d rows left out; the first: %s", dataset, len(unfit), len(unfit) + len(rows), unfit[0])
    return rows
