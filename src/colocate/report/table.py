"""A table of the report: text cells, with a caption and a kind for each column.

A table without rows is left out by the template, which then says why. Numbers are rounded where a table is made and
nowhere else; the CSV files beside the report have them in full.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from colocate import formats as f
from colocate.figures.style import label

LONG = 80  # characters of a cell from which its column is given room


@dataclass(frozen=True)
class Table:
    """Text cells; the first of each row is its header.

    A column whose name begins with # holds one number a cell and is set flush right; with ! it holds verdicts; with @
    links, `id|words`, to a place on this page; with $ formulas, printed as they are.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]

    @property
    def head(self) -> list[str]:
        return [column.lstrip("#!@$") for column in self.columns]

    @property
    def kinds(self) -> list[str]:
        """num, verdict, link, code, text or long text, by column."""
        named = {"#": "num", "!": "verdict", "@": "link", "$": "code"}
        return [named.get(column[0]) or self._text(place) for place, column in enumerate(self.columns)]

    def _text(self, place: int) -> str:
        return "text long" if any(len(row[place]) > LONG for row in self.rows) else "text"


def plain(caption: str, table: pd.DataFrame) -> Table:
    """Any table as it is, numbers rounded."""
    rows = [[f.number(value) for value in row] for row in table.itertuples(index=False, name=None)]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    columns = [("#" if number else "") + label(str(name)) for name, number in zip(table.columns, numeric, strict=True)]
    return Table(caption, columns, rows)


def read(path: Path) -> pd.DataFrame:
    """A table of a file, without rows where there is none."""
    return pd.read_csv(path) if path.is_file() and path.stat().st_size > 1 else pd.DataFrame()
