"""What metrics are measured on, read from its files: the `data` of every metric's `compute`."""

from collections.abc import Sequence
from pathlib import Path

from colocate import pairs, training_data


def read_data(
    pair_files: Sequence[str | Path],
    paraphrases: str | Path,
    limit: int,
    texts: str | Path | None = None,
    examples: tuple[str | Path, dict, int | None] | None = None,
    tokenizer=None,
) -> dict[str, list]:
    """{"pairs", "paraphrases"} and, where their files are given, "texts" and "examples".

    `limit`: so many pairs and paraphrases of each file kind are used. `examples`: a mixture file, settings of
    training_data.Settings that say how it is encoded by `tokenizer`, and how many of its examples are read (None: all).
    """
    data = {
        "pairs": pairs.read_pairs(pair_files)[:limit],
        "paraphrases": pairs.read_paraphrases(paraphrases)[:limit],
    }
    if texts is not None:
        data["texts"] = pairs.read_texts(texts)
    if examples is not None:
        path, settings, n = examples
        data["examples"], _ = training_data.read_examples(path, tokenizer, training_data.Settings(**settings), n)
    return data
