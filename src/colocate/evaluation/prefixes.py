"""Which token sequences share a beginning that is worth computing once, and which of them go through a model together.

A group shares its first P tokens: n (P + rest) tokens become P + n rest. Groups are found on the sorted sequences, from
short beginnings to long ones; a split must save more than SEPARATE tokens a group, what a pass of its own costs.

The token budget bounds memory: a batch's rows times its width (padding counts, and so do a shared beginning and, as
LOGITS tokens each, positions whose logits are computed). Where memory runs out it halves, for good, and says so.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from colocate.errors import InputError

SHORTEST = 16  # tokens of a shared beginning; below that, sharing saves nothing
SEPARATE = 64
LOGITS = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Sequences (by index) that begin with the same `shared` tokens, each with at least one of its own after them."""

    shared: int
    members: tuple[int, ...]


def groups(sequences: Sequence[tuple[int, ...]]) -> list[Group]:
    """Every sequence in one group; those that share nothing worth it are one group, with shared = 0, at the end."""
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    # A sequence keeps its last token: the model needs one to predict from.
    alike = [_common(sequences[a], sequences[b]) for a, b in pairwise(order)]
    found = _split(order, alike, SHORTEST)[1]
    alone = set(range(len(sequences))).difference(*(group.members for group in found))
    return found + [Group(0, tuple(sorted(alone)))] * bool(alone)


def _split(order: list[int], alike: list[int], least: int) -> tuple[int, list[Group]]:
    """(tokens saved, groups) of the sorted sequences `order`, neighbours sharing `alike` tokens, at least `least`."""
    saved, found = 0, []
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and alike[end - 1] >= least:
            continue
        if end - start > 1:
            members, within = order[start:end], alike[start : end - 1]
            shared = min(within)
            together = shared * (len(members) - 1) - SEPARATE
            apart, parts = _split(members, within, 2 * least) if max(within) >= 2 * least else (0, [])
            if apart > together:
                saved, found = saved + apart, found + parts
            elif together > 0:
                saved, found = saved + together, [*found, Group(shared, tuple(sorted(members)))]
        start = end
    return saved, found


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Number of leading tokens that two sequences share, the last of either not counted."""
    least = min(len(a), len(b)) - 1
    if a[:least] == b[:least]:
        return least
    low, high = 0, least  # bisection: comparing slices is faster than comparing tokens
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low


class TokenBudget:
    """Tokens that a batch may hold. `halved` counts how often memory ran out."""

    def __init__(self, tokens: int):
        if not isinstance(tokens, int) or tokens < 1:
            raise InputError(f"evaluation.batch_tokens: found {tokens!r}, expected a whole number of at least 1")
        self.tokens, self.halved = tokens, 0

    def rows(self, width: int, shared: int = 0) -> int:
        """How many rows of `width` tokens fit beside a beginning of `shared` tokens: at least one."""
        return max(1, (self.tokens - shared) // max(1, width))

    def take(self, costs: Sequence[int], most: int, shared: int = 0) -> int:
        """How many of the next rows, widest first, make one batch: at most `most`."""
        count = 1
        while count < min(most, len(costs)) and max(costs[: count + 1]) * (count + 1) + shared <= self.tokens:
            count += 1
        return count

    def halve(self, rows: int, error: BaseException) -> None:
        """After `error` (out of memory) with `rows` rows at once. InputError where there was only one."""
        if rows == 1:
            raise InputError(
                "evaluation: memory ran out on a single request: use a smaller model, dtype nf4 or bfloat16, fewer "
                f"few-shot examples, or a device with more memory ({str(error).splitlines()[0]})"
            ) from error
        self.tokens, self.halved = max(1, self.tokens // 2), self.halved + 1
        log.warning("memory ran out with %d rows at once: evaluation.batch_tokens is now %d", rows, self.tokens)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python says that memory ran out, on a GPU or on the CPU."""
    import torch

    texts = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def batches(costs: Sequence[int], budget: TokenBudget, most: int, shared: int = 0) -> Iterator[list[int]]:
    """Indices of rows, widest first, in batches within the budget as it is when each is asked for."""
    order = sorted(range(len(costs)), key=lambda index: -costs[index])
    start = 0
    while start < len(order):
        count = budget.take([costs[index] for index in order[start : start + most]], most, shared)
        yield order[start : start + count]
        start += count
