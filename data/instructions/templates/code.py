"""Small Python functions: a request, a solution, and checks that a test runs on the solution."""

import random

from templates import REGISTRY, Template

# name -> (split, request, solution, checks, values of the slots); {f} is the function's name
FUNCTIONS = {
    "count_above": ("train", "returns how many numbers in xs are greater than {k}",
        "def {f}(xs):\n    return sum(x > {k} for x in xs)",
        ("{f}([{k}, {k} + 1, {k} + 2]) == 2", "{f}([]) == 0"), {"k": range(2, 60)}),
    "scale_list": ("train", "multiplies every number in xs by {k}",
        "def {f}(xs):\n    return [{k} * x for x in xs]",
        ("{f}([1, 2]) == [{k}, 2 * {k}]", "{f}([]) == []"), {"k": range(2, 30)}),
    "keep_divisible": ("train", "keeps the numbers in xs that {k} divides",
        "def {f}(xs):\n    return [x for x in xs if x % {k} == 0]",
        ("{f}([{k}, {k} + 1, 2 * {k}]) == [{k}, 2 * {k}]",), {"k": range(2, 20)}),
    "reverse_words": ("train", "splits xs at '{sep}' and joins the parts in reverse order",
        "def {f}(xs):\n    return '{sep}'.join(reversed(xs.split('{sep}')))",
        ("{f}('a{sep}b{sep}c') == 'c{sep}b{sep}a'",), {"sep": ["-", ",", ";", ":", "/", "+", "|", "_"]}),
    "clip_at": ("train", "replaces every number in xs above {k} with {k}",
        "def {f}(xs):\n    return [min(x, {k}) for x in xs]",
        ("{f}([{k} - 1, {k} + 5]) == [{k} - 1, {k}]",), {"k": range(5, 90)}),
    "starts_with": ("train", "returns the words in xs that start with '{c}'",
        "def {f}(xs):\n    return [word for word in xs if word.startswith('{c}')]",
        ("{f}(['{c}at', 'zoo']) == ['{c}at']",), {"c": "abcdefghmnprst"}),
    "count_letter": ("train", "counts the letter '{c}' in xs, whatever its case",
        "def {f}(xs):\n    return xs.lower().count('{c}')",
        ("{f}('{c}x{c}'.upper()) == 2", "{f}('') == 0"), {"c": "abcdefghmnprst"}),
    "every_nth": ("train", "returns every element of xs whose index is a multiple of {k}",
        "def {f}(xs):\n    return xs[::{k}]",
        ("{f}(list(range(2 * {k} + 1))) == [0, {k}, 2 * {k}]",), {"k": range(2, 12)}),
    "sum_of_powers": ("train", "returns the sum of x ** {k} for x from 1 to xs",
        "def {f}(xs):\n    return sum(x ** {k} for x in range(1, xs + 1))",
        ("{f}(2) == 1 + 2 ** {k}", "{f}(0) == 0"), {"k": range(2, 9)}),
    "longer_than": ("train", "returns True if any word in xs has more than {k} letters",
        "def {f}(xs):\n    return any(len(word) > {k} for word in xs)",
        ("{f}(['a' * ({k} + 1)])", "not {f}(['a' * {k}])"), {"k": range(2, 15)}),
    "pad_left": ("train", "fills xs with '{c}' from the left to {k} characters",
        "def {f}(xs):\n    return xs.rjust({k}, '{c}')",
        ("{f}('7') == '{c}' * ({k} - 1) + '7'",), {"c": "0.*#-", "k": range(3, 9)}),
    "first_or_default": ("train", "returns the first element of xs, or {k} if xs is empty",
        "def {f}(xs):\n    return xs[0] if xs else {k}",
        ("{f}([]) == {k}", "{f}([5]) == 5"), {"k": range(-20, 20)}),
    "lookup": ("train", "returns the value of '{c}' in the dictionary xs, or {k} if it is missing",
        "def {f}(xs):\n    return xs.get('{c}', {k})",
        ("{f}({{}}) == {k}", "{f}({{'{c}': 1}}) == 1"), {"c": ["size", "age", "color", "count"], "k": [0, -1, 10]}),
    "drop_letter": ("validate", "removes every '{c}' from xs",
        "def {f}(xs):\n    return xs.replace('{c}', '')",
        ("{f}('{c}ok{c}') == 'ok'",), {"c": "abdeghimnpst"}),
    "chunks": ("validate", "cuts xs into lists of {k} elements",
        "def {f}(xs):\n    return [xs[i:i + {k}] for i in range(0, len(xs), {k})]",
        ("{f}(list(range({k} + 1))) == [list(range({k})), [{k}]]",), {"k": range(2, 9)}),
    "largest": ("validate", "returns the {k} largest numbers in xs, largest first",
        "def {f}(xs):\n    return sorted(xs, reverse=True)[:{k}]",
        ("{f}(list(range({k} + 2))) == list(range(2, {k} + 2))[::-1]",), {"k": range(2, 9)}),
    "rotate_left": ("test", "moves the first {k} elements of xs to its end",
        "def {f}(xs):\n    return xs[{k}:] + xs[:{k}]",
        ("{f}(list(range({k})) + [99]) == [99] + list(range({k}))",), {"k": range(1, 8)}),
    "swap_letters": ("test", "replaces every '{c}' in xs with '{d}'",
        "def {f}(xs):\n    return xs.replace('{c}', '{d}')",
        ("{f}('x{c}y{c}') == 'x{d}y{d}'",), {"c": "abcde", "d": "pqrst"}),
    "between": ("test", "returns the numbers in xs from {k} to {m}, both included",
        "def {f}(xs):\n    return [x for x in xs if {k} <= x <= {m}]",
        ("{f}([{k} - 1, {k}, {m}, {m} + 1]) == [{k}, {m}]",), {"k": range(1, 9), "m": range(10, 30)}),
}  # fmt: skip
REQUESTS = ["Write a Python function {f}(xs) that {what}.", "In Python, define {f}(xs). It {what}."]


def slots_of(name: str, rng: random.Random) -> dict:
    return {"f": name, **{slot: rng.choice(list(values)) for slot, values in FUNCTIONS[name][4].items()}}


def _draw(name: str):
    _, what, solution, _, _ = FUNCTIONS[name]

    def draw(rng):
        slots = slots_of(name, rng)
        return rng.choice(REQUESTS).format(f=name, what=what.format(**slots)), solution.format(**slots)

    return draw


for _name, (_split, _, _, _checks, _) in FUNCTIONS.items():
    REGISTRY[_name] = Template(_name, "code", _split, _draw(_name), _checks)
