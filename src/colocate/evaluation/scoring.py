"""Log-probabilities of continuations: log p(y | context) = sum_t log softmax(z_t)[y_t], one pass for many requests.

A question and all its continuations are one row, a tree: the context, then each continuation after it. A token of a
continuation sees the context and what precedes it in its own continuation, at the positions it would have alone.

    row        [ context (C) | y1 without its last token | y2 without its last token | ... ]
    offset       0 .. C-1      C ..                        C ..

The last token of a context predicts the first of each continuation. A beginning that many contexts share is not part
of the rows (colocate.evaluation.prefixes).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from colocate.evaluation.passes import Passes
from colocate.evaluation.prefixes import LOGITS, TokenBudget, batches, groups, is_out_of_memory
from colocate.evaluation.slots import Prefix

WIDEST_TREE = 512  # continuations make a row longer by at most this many tokens, or by the context's length


@dataclass(frozen=True)
class Tree:
    """A context and continuations (ids), and the requests (indices) that these answer."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    requests: tuple[int, ...]

    def rest(self, shared: int) -> int:
        """Tokens of the row after the shared ones."""
        return len(self.context) - shared + sum(len(ids) - 1 for ids in self.continuations)

    @property
    def logits(self) -> int:
        """Positions whose logits are needed."""
        return 1 + sum(len(ids) - 1 for ids in self.continuations)


def trees(requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tree]:
    """(context, continuation) pairs, put together by context."""
    by_context: dict[tuple, list[int]] = {}
    for index, (context, _) in enumerate(requests):
        by_context.setdefault(tuple(context), []).append(index)
    found = []
    for context, indices in by_context.items():
        room, row, extra = max(WIDEST_TREE, len(context)), [], 0
        for index in indices:
            more = len(requests[index][1]) - 1
            if row and extra + more > room:
                found.append(_tree(context, row, requests))
                row, extra = [], 0
            row, extra = [*row, index], extra + more
        found.append(_tree(context, row, requests))
    return found


def _tree(context: tuple, row: list[int], requests) -> Tree:
    return Tree(context, tuple(tuple(requests[index][1]) for index in row), tuple(row))


def score(
    passes: Passes,
    requests: Sequence[tuple[Sequence[int], Sequence[int]]],
    most: int,
    budget: TokenBudget,
    prefix: Callable[[tuple[int, ...]], Prefix],
    done: Callable[[float], None],
) -> list[tuple[float, bool]]:
    """(log-probability in nats, is it what greedy decoding would write?) of each (context ids, continuation ids).

    `most` rows and `budget` tokens go through the model together; `prefix` computes (or remembers) a shared beginning.
    """
    answers: list = [None] * len(requests)
    wanted = trees(requests)
    for group in groups([tree.context for tree in wanted]):
        pending = [wanted[index] for index in group.members]
        ids = pending[0].context[: group.shared]
        while pending:
            members, finished = pending, set()
            copied = passes.copied(group.shared)
            costs = [tree.rest(group.shared) + copied + LOGITS * tree.logits for tree in members]
            beginning = None
            try:
                for batch in batches(costs, budget, most, group.shared):
                    beginning = prefix(ids) if ids else None
                    chosen = [members[index] for index in batch]
                    for tree, scores in zip(chosen, score_rows(passes, chosen, beginning), strict=True):
                        for index, result in zip(tree.requests, scores, strict=True):
                            answers[index] = result
                    finished.update(batch)
                    done(1 - answers.count(None) / len(answers))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                budget.halve(len(batch), error)
            pending = [tree for index, tree in enumerate(members) if index not in finished]
    return answers


def score_rows(passes: Passes, rows: Sequence[Tree], prefix: Prefix | None) -> list[list[tuple[float, bool]]]:
    """As `score`, for the continuations of each row, all rows in one pass."""
    shared, device = len(prefix) if prefix else 0, passes.device
    length = max(tree.rest(shared) for tree in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    offsets = torch.zeros(len(rows), length, dtype=torch.long)
    sees = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself: nothing divides by 0
    lines, columns, targets, ends = [], [], [], []
    for line, tree in enumerate(rows):
        context = tree.context[shared:]
        start = len(context)
        ids[line, :start], offsets[line, :start] = torch.tensor(context), torch.arange(start)
        sees[line, :start, :start] = torch.ones(start, start, dtype=torch.bool).tril()
        for continuation in tree.continuations:
            more = len(continuation) - 1
            end = start + more
            if more:
                ids[line, start:end] = torch.tensor(continuation[:-1])
                offsets[line, start:end] = len(context) + torch.arange(more)
                sees[line, start:end, : len(context)] = True
                sees[line, start:end, start:end] = torch.ones(more, more, dtype=torch.bool).tril()
            columns += [len(context) - 1, *range(start, end)]
            lines += [line] * len(continuation)
            targets += continuation
            ends.append(len(targets))
            start = end
    places, where = torch.tensor([lines, columns]).unique(dim=1, return_inverse=True)  # a context's end is asked once
    slots = passes.slots(len(rows), 0, prefix)
    logits = passes.run(*(part.to(device) for part in (ids, offsets, sees)), slots, tuple(places.to(device)))
    target, where = torch.tensor(targets, device=device), where.to(device)
    logprobs = logits.log_softmax(1)[where, target].double().cpu()  # as stock rounds it
    greedy = (logits.argmax(1)[where] == target).cpu()
    results = iter(
        (float(logprobs[start:end].sum()), bool(greedy[start:end].all()))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    )
    return [[next(results) for _ in tree.continuations] for tree in rows]
