"""Which requests share a beginning: every one is in one group, and the split saves what it can."""

import numpy as np
import pytest

from colocate.errors import InputError
from colocate.evaluation.prefixes import SEPARATE, SHORTEST, Group, TokenBudget, batches, groups


def saved(sequences, found: list[Group]) -> int:
    return sum(group.shared * (len(group.members) - 1) - SEPARATE for group in found if group.shared)


def test_every_sequence_is_in_one_group_that_it_begins_like():
    rng = np.random.default_rng(0)
    for _ in range(20):
        stems = [tuple(rng.integers(0, 3, rng.integers(1, 200))) for _ in range(5)]
        sequences = [stems[rng.integers(5)] + tuple(rng.integers(0, 3, rng.integers(1, 9))) for _ in range(40)]
        found = groups(sequences)
        assert sorted(index for group in found for index in group.members) == list(range(40))
        for group in found:
            beginnings = {sequences[index][: group.shared] for index in group.members}
            assert len(beginnings) == 1 or group.shared == 0
            assert all(len(sequences[index]) > group.shared for index in group.members)
            assert group.shared == 0 or group.shared >= SHORTEST


def test_subjects_with_a_common_first_line_are_told_apart():
    line = tuple(range(20))
    spanish, french = line + tuple(range(100, 400)), line + tuple(range(500, 800))
    sequences = [spanish + (i, 0) for i in range(9)] + [french + (i, 0) for i in range(7)] + [(1, 2), (3,)]
    assert {(group.shared, len(group.members)) for group in groups(sequences)} == {(320, 9), (320, 7), (0, 2)}


def test_nothing_is_split_or_shared_that_does_not_pay():
    line = tuple(range(100))
    sequences = [line + tuple(range(1000 * i, 1000 * i + 30)) + (j,) for i in range(1, 6) for j in (1, 2)]
    assert [(group.shared, len(group.members)) for group in groups(sequences)] == [(100, 10)]
    assert groups([(1, 2, 3)]) == [Group(0, (0,))]
    assert groups([tuple(range(10)) + (i,) for i in range(9)]) == [Group(0, tuple(range(9)))]
    assert groups([]) == []


def test_equal_sequences_keep_a_token_of_their_own():
    assert groups([tuple(range(200))] * 3) == [Group(199, (0, 1, 2))]


def test_batches_hold_to_the_budget_and_to_the_number_of_rows():
    costs = [5, 50, 20, 30, 10, 10, 10]
    found = list(batches(costs, TokenBudget(60), most=3))
    assert sorted(index for batch in found for index in batch) == list(range(7))
    assert all(len(batch) == 1 or max(costs[i] for i in batch) * len(batch) <= 60 for batch in found)
    assert found[0] == [1]
    assert max(map(len, found)) == 3


def test_a_budget_must_be_a_number_of_tokens():
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(InputError, match="evaluation.batch_tokens"):
            TokenBudget(wrong)
