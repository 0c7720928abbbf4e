"""The shipped pairs and texts: sound, true and fair. Numbers are recomputed, code is run, tokens are counted."""

import re
from calendar import monthrange
from collections import Counter
from datetime import date
from itertools import product
from pathlib import Path

import pytest

from colocate import pairs

DATA = Path(__file__).resolve().parents[1] / "data/pairs"
TASKS, PARAPHRASES, TEXTS = DATA / "tasks.jsonl", DATA / "paraphrases.jsonl", DATA / "texts.jsonl"


@pytest.fixture(scope="module")
def tasks():
    return pairs.read_pairs(TASKS)


def test_shipped_files_are_sound():
    assert pairs.check(TASKS, PARAPHRASES, TEXTS) == []


def test_shipped_pairs_cover_domains_and_languages(tasks):
    cells = Counter((pair.domain, pair.language) for pair in tasks)
    domains, languages = {domain for domain, _ in cells}, {language for _, language in cells}
    assert len(tasks) >= 160
    assert len(domains) >= 8
    assert languages == {"en", "de", "fr", "es"}
    assert set(cells) == set(product(domains, languages))  # crossed: neither stands in for the other
    assert all(n == (8 if language == "en" else 4) for (_, language), n in cells.items())
    core = [pair for pair in tasks if "core" in pair.tags]
    assert len(core) == 15
    assert {pair.domain for pair in core} == domains


def test_shipped_pairs_are_all_partners_side_by_side(tasks):
    found = pairs.swaps(tasks)
    assert len(found) == len(tasks) / 2
    assert [pair for partners in found for pair in partners] == tasks
    assert all(p.domain == q.domain for p, q in found)


def test_the_first_rows_are_a_fair_sample(tasks):
    """`pairs.limit` takes the first rows of a file, and few windows come from the first texts."""
    assert len({pair.domain for pair in tasks[:18]}) == 9
    assert len({pair.language for pair in tasks[:18]}) == 4
    assert any("core" in pair.tags for pair in tasks[:18])
    assert len({row.domain for row in pairs.read_paraphrases(PARAPHRASES)[:9]}) == 9
    assert len({text.language for text in pairs.read_texts(TEXTS)[:7]}) == 4


def test_shipped_controls_cover_the_same_domains(tasks):
    controls = pairs.read_paraphrases(PARAPHRASES)
    assert len(controls) >= 60
    assert {(row.domain, row.language) for row in controls} == {(pair.domain, pair.language) for pair in tasks}


def test_shipped_texts_cover_genres_and_do_not_repeat_themselves():
    texts = pairs.read_texts(TEXTS)
    assert len(texts) >= 8
    assert len({text.genre for text in texts}) >= 6
    assert {text.language for text in texts} == {"en", "de", "fr", "es"}
    for text in texts:
        words = text.text.split()
        runs = Counter(tuple(words[i : i + 9]) for i in range(len(words) - 8))
        assert max(runs.values()) == 1, text.id


def test_code_among_the_shipped_texts_is_code():
    (code,) = [text.text for text in pairs.read_texts(TEXTS) if text.genre == "code"]
    compile(code, "code", "exec")


def number(text: str) -> int:
    return int(re.search(r"-?\d+", text).group())


def solutions(equation: str, variable: str) -> list[int]:
    """Whole numbers from -99 to 99 that satisfy an equation or a chain of inequalities in Python's notation."""
    return [value for value in range(-99, 100) if eval(equation, {variable: value})]


HALF_HOUR = 30  # minutes
ELEMENTS = "H He Li Be B C N O F Ne".split()  # by atomic number, from 1
EXPECTED = {  # id -> the right answer, computed rather than copied
    "arithmetic-01": 37 + 48,
    "arithmetic-02": 36 + 48,
    "arithmetic-03": 9 * 7,
    "arithmetic-04": 8 * 8,
    "arithmetic-05": 125 + 50,
    "arithmetic-06": 125 + 40,
    "arithmetic-07": 12 * 6,
    "arithmetic-08": 13 * 6,
    "arithmetic-09": 92 - 58,
    "arithmetic-10": 92 - 56,
    "arithmetic-11": 84 // 4,
    "arithmetic-12": 88 // 4,
    "arithmetic-13": 7 * 8,
    "arithmetic-14": 6 * 9,
    "arithmetic-15": 75 - 29,
    "arithmetic-16": 75 - 27,
    "arithmetic-17": 46 + 27,
    "arithmetic-18": 45 + 27,
    "arithmetic-19": 130 // 2,
    "arithmetic-20": 120 // 2,
    "algebra-01": solutions("x + 7 == 12", "x"),
    "algebra-02": solutions("x + 7 == 11", "x"),
    "algebra-03": 3**2 + 1,
    "algebra-04": 4**2 + 1,
    "algebra-05": solutions("2 * x + 1 == 7", "x"),
    "algebra-06": solutions("2 * x + 1 == 5", "x"),
    "algebra-07": solutions("x ** 2 == 49 and x > 0", "x"),
    "algebra-08": solutions("x ** 2 == 36 and x > 0", "x"),
    "algebra-09": solutions("3 * x == 24", "x"),
    "algebra-10": solutions("3 * x == 27", "x"),
    "algebra-11": (4 * 1 + 7) - (4 * 0 + 7),
    "algebra-12": (7 * 1 + 4) - (7 * 0 + 4),
    "algebra-13": solutions("5 * x == 45", "x"),
    "algebra-14": solutions("5 * x == 40", "x"),
    "algebra-15": 6**2 - 6,
    "algebra-16": 5**2 - 5,
    "algebra-17": 5 * 3 - 2,
    "algebra-18": 5 * 4 - 2,
    "algebra-19": solutions("x / 4 == 5", "x"),
    "algebra-20": solutions("x / 4 == 6", "x"),
    "science-05": ELEMENTS.index("C") + 1,
    "science-06": ELEMENTS.index("O") + 1,
    "units-01": 3 * 10**3,
    "units-02": 2 * 10**3,
    "units-05": 5 * 10**2,
    "units-06": 7 * 10**2,
    "units-07": 5 * HALF_HOUR,
    "units-08": 6 * HALF_HOUR,
    "units-09": 360 // 4,
    "units-13": 2 * 60,
    "units-14": 3 * 60,
    "units-15": 8 * 10,
    "units-16": 9 * 10,
    "units-17": 4 * 10**3,
    "units-18": 6 * 10**3,
    "units-19": 4 * 10,
    "units-20": 6 * 10,
    "time-03": 2 + 3,
    "time-04": 3 + 3,
    "time-05": 11 - 8,
    "time-06": 10 - 8,
    "time-07": (date(2025, 1, 1) - date(2024, 1, 1)).days,
    "time-08": (date(2026, 1, 1) - date(2025, 1, 1)).days,
    "time-11": 40 - 15,
    "time-12": 50 - 15,
    "time-13": 15 - 9,
    "time-14": 16 - 9,
    "time-15": monthrange(2025, 4)[1],
    "time-16": monthrange(2025, 5)[1],
    "time-17": 6 + 2,
    "time-18": 7 + 2,
}
DEFINITIONS = {  # nothing to compute: inches in a foot, ounces in a pound, seconds in a minute, years in a decade, ...
    "units-03": 12,
    "units-04": 16,
    "units-10": 60,
    "time-19": 10,
    "time-20": 12,
}


def test_numbers_in_the_shipped_pairs_are_right(tasks):
    by_id = {pair.id: pair for pair in tasks}
    for name, expected in (EXPECTED | DEFINITIONS).items():
        pair = by_id[name]
        assert [number(pair.correct)] == (expected if isinstance(expected, list) else [expected]), name
        assert number(pair.correct) not in {number(pair.incorrect), number(pair.incorrect2)}, name


def test_numbers_of_a_domain_are_all_recomputed(tasks):
    for pair in tasks:
        if pair.domain in ("arithmetic", "algebra", "units", "time") and re.search(r"\d", pair.correct):
            assert pair.id in EXPECTED or pair.id in DEFINITIONS, pair.id


def test_code_in_the_shipped_pairs_gives_the_answer(tasks):
    code = [pair for pair in tasks if pair.domain == "code"]
    assert code
    for pair in code:
        (expression,) = re.findall(r"`([^`]+)`", pair.prompt)
        result = str(eval(expression))
        assert pair.correct == f" {result}", pair.id
        assert result not in {pair.incorrect.strip(), pair.incorrect2.strip()}, pair.id


def test_answers_to_reading_stand_in_the_text(tasks):
    for pair in (pair for pair in tasks if pair.domain == "reading"):
        words = re.findall(r"\w+", pair.prompt)
        assert {pair.correct.strip(), pair.incorrect.strip()} <= set(words), pair.id


def test_both_answers_of_a_control_are_right():
    rows = {
        row.id: {number(row.correct), number(row.paraphrase)}
        for row in pairs.read_paraphrases(PARAPHRASES)
        if re.search(r"\d", row.correct)
    }
    totals = {sum(dice) for dice in product(range(1, 7), repeat=2)}
    right = {
        "arithmetic-same-01": lambda n: 24 % n == 0,
        "arithmetic-same-02": lambda n: n in totals,
        "arithmetic-same-03": lambda n: n % 5 == 0,
        "arithmetic-same-04": lambda n: 1 < n < 10 and all(n % k for k in range(2, n)),
        "arithmetic-same-05": lambda n: 10 < n < 20 and n % 2 == 0,
        "arithmetic-same-06": lambda n: 20 < n < 30 and n % 2 == 1,
        "arithmetic-same-07": lambda n: n % 3 == 0,
        "algebra-same-01": lambda n: n in solutions("(x - 2) * (x - 5) == 0", "x"),
        "algebra-same-02": lambda n: n in solutions("10 < x < 19", "x"),
        "algebra-same-03": lambda n: n in solutions("(x - 1) * (x - 4) == 0", "x"),
        "algebra-same-04": lambda n: n in solutions("x ** 2 - 9 * x + 14 == 0", "x"),
        "algebra-same-05": lambda n: 2 * n > 9,
        "algebra-same-06": lambda n: n in solutions("(x - 3) * (x - 8) == 0", "x"),
        "algebra-same-07": lambda n: n in solutions("3 < x < 9", "x"),
        "science-same-03": lambda n: n in {3, 11, 19, 37, 55, 87},  # Li, Na, K, Rb, Cs, Fr
        "code-same-01": lambda n: n % 2 == 0,
        "code-same-03": lambda n: n > 5,
        "code-same-05": lambda n: n in range(10),
        "code-same-06": lambda n: n < 8,
        "code-same-07": lambda n: n % 3 == 0,
        "reading-same-03": lambda n: n in {3, 5},
        "units-same-01": lambda n: n > 1000,
        "units-same-03": lambda n: n > 60,
        "units-same-05": lambda n: 0 < n < 1000,
        "units-same-06": lambda n: 0 < n < 100,
        "units-same-07": lambda n: n > 60,
        "time-same-06": lambda n: 2001 <= n <= 2100,
        "time-same-07": lambda n: 1901 <= n <= 2000,
        "time-same-03": lambda n: (date(n + 1, 1, 1) - date(n, 1, 1)).days == 366,
    }
    assert set(right) == set(rows)
    for name, values in rows.items():
        assert len(values) == 2
        assert all(right[name](value) for value in values), name


@pytest.mark.smollm2
def test_answers_are_alike_in_smollm2_tokens(smollm2, tasks):
    from colocate.models import load_tokenizer

    tokenizer = load_tokenizer(smollm2)
    rows = [*tasks, *pairs.read_paraphrases(PARAPHRASES)]
    assert pairs.check_tokens(rows, tokenizer, 8192) == []
    counts = pairs.count_tokens(rows, tokenizer)
    assert counts["one_apart"] == counts["equal"] == counts["n"] == len(rows)


@pytest.mark.smollm2
def test_every_text_fills_the_longest_window_in_smollm2_tokens(smollm2):
    from colocate.models import load_tokenizer
    from colocate.profiles.windows import windows

    tokenizer, texts = load_tokenizer(smollm2), pairs.read_texts(TEXTS)
    for length in (128, 512, 2048):
        found = windows(tokenizer, texts, length, len(texts))
        assert [window.item for window in found] == [f"{text.id}:0" for text in texts]
        assert {len(window.ids) for window in found} == {length}
