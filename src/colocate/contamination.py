"""Test items that occur in the data: shared runs of 13 words (Brown et al. 2020, appendix C).

Words are whitespace tokens of the lower-cased text. A row of data is all its messages, question and answer. A test item
is its question with each right answer, and its question alone: a question copied without its answer counts too. An item
of 8 to n - 1 words counts when the whole of it occurs; a shorter one is too short to tell anything.
"""

from collections.abc import Iterator
from pathlib import Path

from colocate.errors import InputError
from colocate.instructions import raw_rows, read_rows

ASKED = ("question", "prompt", "text", "problem", "Question")  # what an item asks or says
ANSWERED = ("correct", "paraphrase", "answer", "solution", "canonical_solution", "Correct Answer")
SHORTEST = 8  # words
COLUMNS = ["split", "item", "reference", "reference_item", "ngram"]


def find(splits: dict[str, str | Path], references: dict[str, list[tuple[str, ...]]], n: int = 13):
    """Rows of `splits` (files of instruction data) that share a run of n words with a test item.

    `references`: the texts of each item, by name, as `reference_texts` makes them. Returns a DataFrame with one row for
    each pair found: split, item (row id), reference (its name), reference_item (its index), ngram (the first shared).
    """
    import pandas as pd

    grams: dict[tuple[str, ...], set[tuple[str, int]]] = {}
    for name, items in references.items():
        for index, words in ((index, text.lower().split()) for index, item in enumerate(items) for text in item):
            for gram in _ngrams(words, min(n, len(words)) if len(words) >= min(n, SHORTEST) else n):
                grams.setdefault(gram, set()).add((name, index))
    lengths = sorted({len(gram) for gram in grams})
    found = []
    for split, path in splits.items():
        for row in read_rows(path):
            words = " ".join(message["content"] for message in row["messages"]).lower().split()
            hits: dict[tuple[str, int], str] = {}
            for gram in (gram for length in lengths for gram in _ngrams(words, length)):
                for reference in sorted(grams.get(gram, ())):
                    hits.setdefault(reference, " ".join(gram))
            found += [[split, row["id"], name, index, gram] for (name, index), gram in hits.items()]
    return pd.DataFrame(found, columns=COLUMNS)


def reference_texts(path: str | Path) -> list[tuple[str, ...]]:
    """(question, question with right answer, ...) of each row of a file of pairs, texts or benchmark items.

    JSONL, a JSON list, Parquet or CSV, or a folder of these, laid out as on the hub: there, files named after a
    training split hold no test item and are left out. Wrong choices are left out: a copied item need not bring them.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for kind in READERS for file in path.rglob(f"*{kind}"))
        files = [file for file in files if "train" not in file.name and file.name != "manifest.json"]
        if not files:
            raise InputError(f"{path}: no file of test items in this folder ({', '.join(READERS)})")
    return [_texts(where, row) for file in files for where, row in _rows(file)]


def _texts(where: str, row: dict) -> tuple[str, ...]:
    asked = next((row[key] for key in ASKED if isinstance(row.get(key), str)), None)
    if asked is None:
        raise InputError(f"{where}: no field {' or '.join(ASKED)}; found {', '.join(sorted(row))}")
    joined = (asked + answer if answer[:1].isspace() else f"{asked} {answer}" for answer in _answers(row))
    return (asked, *joined)


def _answers(row: dict) -> list[str]:
    """The right answers of an item; none where it has none."""
    choices = row.get("choices")
    if isinstance(choices, list) and isinstance(row.get("answer"), int):
        return [str(choices[row["answer"]])]
    if isinstance(choices, dict) and row.get("answerKey") in choices.get("label", ()):
        return [choices["text"][list(choices["label"]).index(row["answerKey"])]]
    return [row[key] for key in ANSWERED if isinstance(row.get(key), str)]


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    return READERS.get(path.suffix, raw_rows)(path)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pylist()
    return ((f"{path}: row {number}", row) for number, row in enumerate(rows, start=1))


def _csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    import csv

    with path.open(encoding="utf-8", newline="") as lines:
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(csv.DictReader(lines), start=1))


READERS = {".jsonl": raw_rows, ".json": raw_rows, ".parquet": _parquet_rows, ".csv": _csv_rows}


def _ngrams(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
