"""Greedy answers y_t = argmax z_t of many prompts, in one running batch.

Rows are taken from a queue, longest prompt first. A row stops when it has written a stop string, an end token or as
many tokens as it may; its place goes to the next prompt as soon as a share REFILL of the places is free. Stop strings
may end in the middle of a token, so text is compared, of the last tokens alone: those that a stop string can span. A
beginning that many prompts share is computed once (colocate.evaluation.prefixes).
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from colocate.evaluation.passes import Passes, causal, causal_offsets
from colocate.evaluation.prefixes import LOGITS, TokenBudget, groups, is_out_of_memory
from colocate.evaluation.slots import Prefix

REFILL = 0.25


@dataclass(frozen=True)
class Prompt:
    """`ids` of a prompt, and how many tokens may follow; `stop`: strings after which nothing is wanted."""

    ids: tuple[int, ...]
    room: int
    stop: tuple[str, ...]


@dataclass
class _Row:
    index: int  # of the prompt
    prompt: Prompt
    length: int  # tokens in slots
    written: list[int] = field(default_factory=list)


class Writer:
    """Writes answers with `passes`; `decode`: ids to text, special tokens included; `ends`: tokens that end a text."""

    def __init__(self, passes: Passes, decode: Callable[[list[int]], str], ends: Iterable[int]):
        self.passes, self.decode, self.ends = passes, decode, frozenset(ends)

    def write(
        self,
        prompts: Sequence[Prompt],
        most: int,
        budget: TokenBudget,
        prefix: Callable[[tuple[int, ...]], Prefix],
        done: Callable[[float], None],
    ) -> list[list[int]]:
        """The tokens written after each prompt, up to and with those that end it; arguments as for scoring.score."""
        answers: list = [None] * len(prompts)
        for group in groups([prompt.ids for prompt in prompts]):
            pending = sorted(group.members, key=lambda index: -len(prompts[index].ids))
            ids = prompts[pending[0]].ids[: group.shared]
            while pending:
                width = max(len(prompts[index].ids) - group.shared + prompts[index].room for index in pending)
                places = min(most, len(pending), budget.rows(width + self.passes.copied(group.shared), group.shared))
                try:
                    beginning = prefix(ids) if ids else None
                    slots = self.passes.slots(places, width, beginning)
                    for row in self._rows(slots, deque((index, prompts[index]) for index in pending), budget):
                        answers[row.index] = row.written
                        done(1 - answers.count(None) / len(answers))
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    budget.halve(places, error)
                pending = [index for index in pending if answers[index] is None]
        return answers

    def _rows(self, slots, queue: deque, budget: TokenBudget):
        """Yield each row when it is done."""
        active: list[_Row] = []
        tokens: list[int] = []  # the last of each active row, not yet in a slot
        while queue or active:
            free = slots.n_rows - len(active)
            going = len(active)
            if queue and (not active or free >= REFILL * slots.n_rows):
                rows, first = self._start(slots, going, queue, free, budget)
                active, tokens = active + rows, tokens + first
                advanced = range(going, len(active))
            else:
                tokens = self._step(slots, active, tokens)
                advanced = range(going)
            for place in reversed(advanced):  # what takes a free place has then been looked at
                row = active[place]
                row.written.append(tokens[place])
                if not self._over(row):
                    continue
                yield row
                last = len(active) - 1
                if place < last:
                    slots.move(last, place, active[last].length)
                    active[place], tokens[place] = active[last], tokens[last]
                active.pop()
                tokens.pop()

    def _start(self, slots, place: int, queue: deque, free: int, budget: TokenBudget) -> tuple[list[_Row], list[int]]:
        """Run the next prompts of the queue in the free rows from `place` on; returns them and their first tokens."""
        shared = len(slots.prefix) if slots.prefix else 0
        widths = [len(prompt.ids) - shared + LOGITS for _, prompt in list(queue)[:free]]
        count = budget.take(widths, free)
        taken = [queue.popleft() for _ in range(count)]
        rows = [_Row(index, prompt, len(prompt.ids) - shared) for index, prompt in taken]
        ids = torch.zeros(count, max(row.length for row in rows), dtype=torch.long)
        for line, row in enumerate(rows):
            ids[line, : row.length] = torch.tensor(row.prompt.ids[shared:])
        ids = ids.to(self.passes.device)
        lines = torch.arange(count, device=ids.device)
        lasts = torch.tensor([row.length - 1 for row in rows], device=ids.device)
        slots.at(place)
        logits = self.passes.run(ids, causal_offsets(ids), causal(ids), slots, (lines, lasts))
        return rows, logits.argmax(1).tolist()

    def _step(self, slots, active: list[_Row], tokens: list[int]) -> list[int]:
        """Put `tokens` into the rows and return the next ones."""
        device = self.passes.device
        starts = torch.tensor([row.length for row in active], device=device)
        seen = max(row.length for row in active) + 1
        slots.at(0, starts, seen)
        sees = torch.arange(seen, device=device) <= starts[:, None]
        lines = torch.arange(len(active), device=device)
        ids = torch.tensor(tokens, device=device)[:, None]
        logits = self.passes.run(ids, starts[:, None], sees[:, None], slots, (lines, torch.zeros_like(lines)))
        for row in active:
            row.length += 1
        return logits.argmax(1).tolist()

    def _over(self, row: _Row) -> bool:
        if row.written[-1] in self.ends or len(row.written) >= row.prompt.room:
            return True
        span = max((len(word.encode()) for word in row.prompt.stop), default=0) + 4  # a token is a byte or more
        text = self.decode(row.written[-span:])
        return any(word in text for word in row.prompt.stop)
