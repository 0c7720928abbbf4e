"""Test items that occur in the data: shared runs of 13 words (Brown et al. 2020, appendix C).

Words are whitespace tokens of the lower-cased text. A row of data is all its messages, question and answer. A test item
is its question with each right answer, and its question alone: a question copied without its answer counts too. An item
of 8 to n - 1 words counts when the whole of it occurs; a shorter one is too short to tell anything.

`Grams` holds the test items, `find` every row of data against them, `counts` sums that up by source and benchmark.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from colocate import rows as data_rows
from colocate.errors import InputError
from colocate.instructions import read_rows

ASKED = ("question", "prompt", "text", "problem", "Question")  # what an item asks or says; else its longest text
ANSWERED = ("correct", "paraphrase", "answer", "solution", "canonical_solution", "Correct Answer")
SHORTEST = 8  # words
COLUMNS = ["split", "item", "source", "reference", "reference_item", "ngram"]
COUNTS = ["source", "split", "reference", "rows", "rows_found", "items", "items_found", "examples"]
EXAMPLES = 5  # of each source, split and benchmark
TRAINING = re.compile(r"(^|[/_.-])train")  # in a path below a data set's folder: no test item is there


class Grams:
    """The runs of n words of test items. `references`: {name: items}, `items` as `reference_items` or a list of texts.

    `private`: names of references whose words are never given back (GPQA asks for that).
    """

    def __init__(self, references: Mapping[str, Mapping | list], n: int = 13, private: Iterable[str] = ()):
        self.private = frozenset(private)
        self.sizes = {name: len(items) for name, items in references.items()}
        self._items: list[tuple[str, object]] = []
        self._owners: dict[int, tuple[int, ...]] = {}  # by the hash of a run: the items that have it
        self._lengths: set[int] = set()
        self._texts: list[tuple[str, ...]] = []
        for name, items in references.items():
            for key, texts in items.items() if isinstance(items, Mapping) else enumerate(items):
                number = len(self._items)
                self._items.append((name, key))
                self._texts.append(tuple(texts))
                for words in (text.lower().split() for text in texts):
                    length = min(n, len(words)) if len(words) >= min(n, SHORTEST) else n
                    self._lengths.add(length)
                    for gram in _ngrams(words, length):
                        owners = self._owners.get(hash(gram), ())
                        if number not in owners[-1:]:
                            self._owners[hash(gram)] = (*owners, number)

    def hits(self, row: dict) -> list[tuple[str, object, str]]:
        """(reference, reference_item, the first shared run) of each test item that shares one with a row of data."""
        words = " ".join(message["content"] for message in row["messages"]).lower().split()
        found: dict[int, str] = {}
        for gram in (gram for length in sorted(self._lengths) for gram in _ngrams(words, length)):
            for number in self._owners.get(hash(gram), ()):
                if number not in found and self._holds(number, gram):
                    found[number] = " ".join(gram)
        named = [(*self._items[number], gram) for number, gram in found.items()]
        return [(name, key, "" if name in self.private else gram) for name, key, gram in named]

    def _holds(self, number: int, gram: tuple[str, ...]) -> bool:
        """Whether an item has these words in a run, and not only a run of the same hash."""
        run = f" {' '.join(gram)} "
        return any(run in f" {' '.join(text.lower().split())} " for text in self._texts[number])


def find(
    splits: dict[str, str | Path], references: Mapping[str, Mapping | list], n: int = 13, private: Iterable[str] = ()
):
    """Rows of `splits` (files of instruction data) that share a run of n words with a test item.

    `references`, `private`: as for `Grams`. Returns a DataFrame with one row for each pair found: split, item (row id),
    source (of the row), reference (its name), reference_item (its id or index), ngram (the first shared; "" where
    private).
    """
    return scan(splits, Grams(references, n, private))[0]


def scan(splits: dict[str, str | Path], grams: Grams):
    """(what `find` returns, {(source, split): rows that were looked at})."""
    import pandas as pd

    found, looked_at = [], {}
    for split, path in splits.items():
        for row in read_rows(path):
            key = (row["source"], split)
            looked_at[key] = looked_at.get(key, 0) + 1
            found += [[split, row["id"], row["source"], *hit] for hit in grams.hits(row)]
    return pd.DataFrame(found, columns=COLUMNS), looked_at


def counts(found, looked_at: dict[tuple[str, str], int], sizes: Mapping[str, int]):
    """How much of each source occurs in each benchmark: a DataFrame with a row for each, zeros included.

    `found`, `looked_at`: of `scan`; `sizes`: items of each reference. Columns: source, split, reference, rows (of the
    source in the split), rows_found, items (of the reference), items_found, examples ("row=item", at most EXAMPLES).
    """
    import pandas as pd

    table = []
    for (source, split), rows in looked_at.items():
        for reference, items in sizes.items():
            here = found[(found.source == source) & (found.split == split) & (found.reference == reference)]
            pairs = zip(here["item"], here["reference_item"], strict=True)
            shown = [f"{row}={item}" for row, item in list(pairs)[:EXAMPLES]]
            numbers = [rows, here["item"].nunique(), items, here["reference_item"].nunique()]
            table.append([source, split, reference, *numbers, " ".join(shown)])
    return pd.DataFrame(table, columns=COUNTS)


def examples(found):
    """The first EXAMPLES rows of `found` for each source, split and benchmark, in its order."""
    return found.groupby(["source", "split", "reference"], sort=False).head(EXAMPLES)


def read_references(paths: Iterable[Path], benchmarks: Mapping[str, dict]) -> dict[str, dict[str, tuple[str, ...]]]:
    """{name: test items} of the files that a rule lists: pairs and texts by file, benchmarks by what holds their items.

    `benchmarks`: the config's entries. A built-in task's name is its folder's, that of a hub data set is its id, since
    several benchmarks may read one, and that of a YAML of yours is the path of its folder. A file of a hub data set
    stands for all of it.
    """
    hubs = {entry["source"] for entry in benchmarks.values()}
    holders = {name: ending for entry in benchmarks.values() for name, ending in _holders(entry).items()}
    found: dict[str, dict] = {}
    for path in map(Path, paths):
        held = ((name, parent) for name, end in holders.items() for parent in path.parents if _ends(parent, end))
        name, place = next(held, (path.stem, path))
        if name in hubs:
            found[name] = found.get(name) or reference_items(place)
        elif place == path or not TRAINING.search(path.name):
            found.setdefault(name, {}).update(reference_items(path))
    return found


def private(benchmarks: Mapping[str, dict]) -> set[str]:
    """Names, as `read_references` gives them, of the benchmarks whose texts must not be written."""
    return {name for entry in benchmarks.values() if entry.get("private") for name in _holders(entry)}


def _holders(entry: dict) -> dict[str, str]:
    """{name: how the path of the folder ends} of what holds the items of a benchmark."""
    hub = {} if entry["source"] == "builtin" else {entry["source"]: entry["source"]}
    if entry["task"].endswith((".yaml", ".yml")):
        folder = Path(entry["task"]).parent.as_posix()
        return hub | {folder: folder}
    return hub or {entry["task"]: f"benchmarks/{entry['task']}"}


def _ends(folder: Path, ending: str) -> bool:
    return folder.as_posix() == ending or folder.as_posix().endswith(f"/{ending}")


def reference_texts(path: str | Path) -> list[tuple[str, ...]]:
    """(question, question with right answer, ...) of each row of a file of pairs, texts or benchmark items.

    A file or folder that colocate.rows can read: in a folder, files named after a training split hold no test item and
    are left out. Wrong choices are left out: a copied item need not bring them.
    """
    return [_texts(where, row) for where, row in _rows(Path(path))]


def reference_items(path: str | Path) -> dict[str, tuple[str, ...]]:
    """As `reference_texts`, by id: `item` of an evaluation (the digest of the row); of a pair or a text its own."""
    return {_id(row): _texts(where, row) for where, row in _rows(Path(path))}


def _id(row: dict) -> str:
    own = {"correct", "text"} & row.keys() and row.get("id")
    return own or data_rows.digest(row)


def _rows(path: Path) -> Iterable[tuple[str, dict]]:
    files = data_rows.files_of(path)
    if path.is_dir():
        files = [file for file in files if not TRAINING.search(file.relative_to(path).as_posix())]
    if not files:
        raise InputError(f"{path}: no file of test items in this folder: all are of a training split")
    return (pair for file in files for pair in data_rows.read(file))


def _texts(where: str, row: dict) -> tuple[str, ...]:
    others = sorted((row[key] for key in row if isinstance(row[key], str) and key not in ANSWERED), key=len)
    asked = next((row[key] for key in ASKED if isinstance(row.get(key), str)), others[-1] if others else None)
    if asked is None:
        raise InputError(f"{where}: no field {' or '.join(ASKED)}, and no other text; found {', '.join(sorted(row))}")
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


def _ngrams(words: list[str], n: int) -> Iterable[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
