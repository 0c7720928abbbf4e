"""Windows of a fixed number of tokens from running texts: influence of position depends on length, so length is held.

Windows of one text are alike, so all first windows come before all second ones. A text shorter than the window is
joined with the texts after it. A tokenizer that begins texts with a bos token has it at the start of every window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from colocate.errors import InputError
from colocate.pairs import Text


@dataclass(frozen=True)
class Window:
    """`ids`: exactly the number of tokens asked for. `item` names the text, or texts, and the window in it."""

    item: str
    ids: tuple[int, ...]


def windows(tokenizer, texts: Sequence[Text], length: int, limit: int) -> list[Window]:
    """Up to `limit` windows of `length` tokens. InputError if the texts do not fill one."""
    bos = _leading_bos(tokenizer)
    step = length - len(bos)
    units, names, ids = [], [], []
    for text in texts:
        names.append(text.id)
        ids += tokenizer(("\n\n" if ids else "") + text.text, add_special_tokens=False)["input_ids"]
        if len(ids) >= step:
            units.append(("+".join(names), ids))
            names, ids = [], []
    found = [
        (index, Window(f"{name}:{index}", tuple(bos + unit[index * step : (index + 1) * step])))
        for name, unit in units
        for index in range(len(unit) // step)
    ]
    if not found:
        raise InputError(f"text_tokens: found {length}, but all texts together have {len(ids)} tokens")
    return [window for _, window in sorted(found, key=lambda entry: entry[0])][:limit]


def _leading_bos(tokenizer) -> list[int]:
    first = tokenizer("a")["input_ids"][0]
    return [first] if first == tokenizer.bos_token_id else []
