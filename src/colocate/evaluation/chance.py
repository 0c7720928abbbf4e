"""What an accuracy is worth: is it above guessing, and were two arms asked the same?

chance        accuracy of guessing: mean over items of 1 / number of choices; 0 where answers are written
near_chance   accuracy - Z stderr <= chance, the one-sided 95 % bound; where accuracies are all alike and give no
              stderr, that of n guesses, sqrt(c (1 - c) / n), and at least one item: sqrt(1 / n^2)

Small models sit at this floor: there, gold_logprob and margin still tell arms apart.
"""

import math

from colocate.errors import InputError

Z = 1.645


def mark(accuracy: float | None, stderr: float | None, n: int, chance: float | None) -> dict:
    """{"chance", "near_chance"} of one evaluation; None where nothing was evaluated."""
    if accuracy is None or chance is None:
        return {"chance": chance, "near_chance": None}
    error = stderr or max(math.sqrt(chance * (1 - chance) / n), 1 / n)
    return {"chance": chance, "near_chance": bool(accuracy - Z * error <= chance)}


def check_paired(tables: dict[str, "pandas.DataFrame"]) -> None:  # noqa: F821 (pandas is heavy)
    """InputError unless all evaluations (by name) saw the same documents, as processed for the prompt, by item.

    `tables`: columns item, the hash of the raw row, and doc_hash, that of the processed document.
    """
    (first_name, first), *others = tables.items()
    expected = dict(zip(first["item"], first["doc_hash"], strict=True))
    for name, table in others:
        found = dict(zip(table["item"], table["doc_hash"], strict=True))
        if alone := found.keys() ^ expected.keys():
            raise InputError(
                f"{first_name} and {name}: {len(alone)} items are in one of them alone ({min(alone)}, ...)"
            )
        if differ := [item for item in expected if expected[item] != found[item]]:
            raise InputError(
                f"{first_name} and {name}: {len(differ)} items were processed differently ({min(differ)}, ...): "
                "evaluate both again with one evaluation.seed and one version of lm-eval"
            )
