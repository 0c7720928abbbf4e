"""Pairs: every kind of bad row is named by file, line and field; the shipped data are sound, true and fair."""

import json
import re
from collections import Counter
from datetime import date
from itertools import product
from pathlib import Path

import pytest

from colocate import pairs
from colocate.errors import InputError

DATA = Path(__file__).resolve().parents[1] / "data/pairs"
TASKS, PARAPHRASES, TEXTS = DATA / "tasks.jsonl", DATA / "paraphrases.jsonl", DATA / "texts.jsonl"
ROW = {
    "id": "sum-01",
    "domain": "arithmetic",
    "language": "en",
    "prompt": "1 + 1 =",
    "correct": " 2",
    "incorrect": " 3",
    "incorrect2": " 4",
    "tags": ["core"],
}
SAME = {key: ROW[key] for key in ("domain", "language", "tags")} | {
    "id": "same-01",
    "prompt": "Even:",
    "correct": " 2",
    "paraphrase": " 4",
}


def write(folder: Path, *rows, name: str = "pairs.jsonl") -> Path:
    """Rows as JSON, or raw text or bytes as they are."""
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path = folder / name
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def without(key: str) -> dict:
    return {name: value for name, value in ROW.items() if name != key}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (without("incorrect2"), "incorrect2: missing"),
        (ROW | {"answer": " 2"}, "answer: unknown field; allowed: id, domain,"),
        (ROW | {"prompt": 7}, "prompt: expected text, found 7"),
        (ROW | {"correct": None}, "correct: expected text, found null"),
        (ROW | {"correct": " "}, "correct: is empty"),
        (ROW | {"correct": "2"}, "correct: '2' must begin with exactly one space"),
        (ROW | {"incorrect": "  3"}, "incorrect: '  3' must begin with exactly one space"),
        (ROW | {"incorrect": "\n3"}, "incorrect: '\\n3' must begin with exactly one space"),
        (ROW | {"incorrect": " 3\n"}, "incorrect: ' 3\\n' ends in white space"),
        (ROW | {"prompt": "1 + 1 = "}, "prompt: '1 + 1 = ' ends in white space"),
        (ROW | {"incorrect": " 2"}, "incorrect: ' 2' is the same answer as correct"),
        (ROW | {"incorrect2": " 3"}, "incorrect2: ' 3' is the same answer as incorrect"),
        (ROW | {"language": "english"}, "language: 'english' is not a two-letter code"),
        (ROW | {"id": "sum 01"}, "id: 'sum 01' holds white space or a slash"),
        (ROW | {"tags": "core"}, 'tags: expected a list of words, found "core"'),
        (ROW | {"tags": ["core", 1]}, "tags: expected a list of words"),
        (ROW | {"tags": ["core", "core"]}, "tags: a tag appears twice"),
        (ROW | {"prompt": "caf\u0065\u0301 ="}, "prompt: is not in Unicode normal form NFC"),
        (json.dumps(ROW).replace("1 + 1 =", "\\ud800"), "prompt: holds half of a surrogate pair"),
        ([ROW], "expected a JSON object, found list"),
        ('{"id": "sum-01"', "not one JSON object"),
        ("", "not one JSON object"),
        ('{"id": "a", "id": "b"}', "not one JSON object: key 'id' appears twice"),
        ("\ufeff" + json.dumps(ROW), "not one JSON object"),
        (json.dumps(ROW).replace("1 + 1", "caf\u00e9").encode("latin-1"), "not UTF-8: byte 0xe9 at position"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, row, problem):
    path = write(tmp_path, ROW | {"id": "first", "prompt": "2 - 0 ="}, row)
    found = pairs.check(path)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:2: {problem}")
    with pytest.raises(InputError) as error:
        pairs.read_pairs(path)
    assert str(error.value) == found[0]


def test_every_bad_row_is_reported(tmp_path):
    path = write(tmp_path, without("id"), ROW, ROW | {"correct": "2", "extra": 1})
    assert [problem.split(": ")[0:2] for problem in pairs.check(path)] == [
        [f"{path}:1", "id"],
        [f"{path}:3", "extra"],
        [f"{path}:3", "correct"],
    ]


def test_ids_are_unique_over_all_files(tmp_path):
    first = write(tmp_path, ROW)
    second = write(tmp_path, ROW | {"prompt": "4 - 2 ="}, name="more.jsonl")
    same = write(tmp_path, SAME | {"id": "sum-01"}, name="same.jsonl")
    assert pairs.check([first, second], same) == [
        f"{second}:1: id: 'sum-01' is already used at {first}:1",
        f"{same}:1: id: 'sum-01' is already used at {first}:1",
    ]
    with pytest.raises(InputError, match="already used"):
        pairs.read_pairs([first, second])


def test_the_same_prompt_and_answer_twice_is_reported(tmp_path):
    path = write(tmp_path, ROW, ROW | {"id": "sum-02"})
    assert pairs.check(path) == [f"{path}:2: prompt: the same as in 'sum-01' at {path}:1"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_reported(tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    assert pairs.check(path) == [f"{path}: the file is empty; expected one JSON object a line"]


def test_a_missing_file_is_reported(tmp_path):
    assert pairs.check(tmp_path / "none.jsonl") == [
        f"{tmp_path / 'none.jsonl'}: cannot be read: No such file or directory"
    ]


def test_rows_are_read_in_order_with_their_place(tmp_path):
    path = write(tmp_path, ROW, ROW | {"id": "sum-02", "prompt": "3 - 1 ="})
    first, second = pairs.read_pairs(path)
    assert (first.id, first.correct, first.incorrect2, first.tags) == ("sum-01", " 2", " 4", ("core",))
    assert (second.file, second.line) == (str(path), 2)
    (same,) = pairs.read_paraphrases(write(tmp_path, SAME, name="same.jsonl"))
    assert (same.correct, same.paraphrase) == (" 2", " 4")
    assert pairs.answers_of(first) == ["correct", "incorrect", "incorrect2"]
    assert pairs.answers_of(same) == ["correct", "paraphrase"]


def test_a_language_without_spaces_needs_none(tmp_path):
    chinese = ROW | {"language": "zh", "prompt": "1 + 1 等于", "correct": "二", "incorrect": "三", "incorrect2": "四"}
    assert pairs.check(write(tmp_path, chinese)) == []


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_answer_tokens_begin_where_the_prompt_ends():
    from tiny import make_tokenizer

    tokenizer = make_tokenizer()  # one token a byte
    for prompt, answer in (("2 + 2 =", " 4"), ("Größe: 3 м →", " é"), ("数は", "五")):
        ids, start = pairs.encode(tokenizer, prompt, answer)
        assert len(ids) == len((prompt + answer).encode())
        assert start == len(prompt.encode())


class Merging:
    """A tokenizer that makes one token of everything, so that none begins at the answer."""

    def __call__(self, text, return_offsets_mapping):
        return {"input_ids": [1, 2], "offset_mapping": [(0, 1), (1, len(text))]}


def test_an_answer_has_at_least_one_token():
    assert pairs.encode(Merging(), "數是", "五") == ([1, 2], 1)


def test_texts_beyond_the_context_and_answers_alike_in_tokens_are_reported(tmp_path):
    from tiny import make_tokenizer

    found = pairs.read_pairs(write(tmp_path, ROW, ROW | {"id": "sum-02", "prompt": "1 + 1 is surely equal to"}))
    problems = pairs.check_tokens(found, make_tokenizer(), 12)
    assert problems == [
        f"{found[1].file}:2: {name}: 26 tokens with the prompt, the model takes 12"
        for name in ("correct", "incorrect", "incorrect2")
    ]
    assert pairs.check_tokens(found, make_tokenizer(), 26) == []

    class Folding:
        def __call__(self, text, **options):
            return make_tokenizer()(text.lower(), **options)

    capitals = pairs.read_pairs(write(tmp_path, ROW | {"correct": " True", "incorrect": " true", "incorrect2": " no"}))
    assert pairs.check_tokens(capitals, Folding(), 99) == [
        f"{capitals[0].file}:1: incorrect: this tokenizer turns it into the same tokens as 'correct'"
    ]


def test_answers_of_unequal_length_are_noted(tmp_path):
    from tiny import make_tokenizer

    found = pairs.read_pairs(write(tmp_path, ROW | {"incorrect": " 33"}))
    assert pairs.check_equal_tokens(found, make_tokenizer()) == [
        f"{found[0].file}:1: correct: answers differ in number of tokens: correct 2, incorrect 3, incorrect2 2"
    ]


def test_partners_mirror_each_other():
    def pair(name, correct, incorrect, language="en"):
        return pairs.Pair(name, "world", language, name, correct, incorrect, " x")

    rows = [pair("a", " 1", " 2"), pair("b", " 1", " 2"), pair("c", " 2", " 1", "de"), pair("d", " 2", " 1")]
    assert [(p.id, q.id) for p, q in pairs.swaps(rows)] == [("a", "d")]


# --- the shipped data ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tasks():
    return pairs.read_pairs(TASKS)


def test_shipped_files_are_sound():
    assert pairs.check(TASKS, PARAPHRASES, TEXTS) == []


def test_shipped_pairs_cover_domains_and_languages(tasks):
    assert len(tasks) >= 48
    per_domain, per_language = Counter(pair.domain for pair in tasks), Counter(pair.language for pair in tasks)
    assert len(per_domain) >= 8
    assert min(per_domain.values()) >= 5
    assert len(per_language) >= 3
    assert min(per_language.values()) >= 10
    core = [pair for pair in tasks if "core" in pair.tags]
    assert len(core) == 15
    assert {pair.domain for pair in core} == set(per_domain)


def test_shipped_controls_cover_the_same_domains(tasks):
    controls = pairs.read_paraphrases(PARAPHRASES)
    assert len(controls) >= 18
    assert {row.domain for row in controls} == {pair.domain for pair in tasks}
    assert len(pairs.swaps(tasks)) >= len(tasks) / 3


def test_shipped_texts_cover_genres():
    texts = pairs.read_texts(TEXTS)
    assert len(texts) >= 8
    assert len({text.genre for text in texts}) >= 6


def number(text: str) -> int:
    return int(re.search(r"-?\d+", text).group())


def solutions(equation: str, variable: str) -> list[int]:
    """Whole numbers from -99 to 99 that satisfy an equation or a chain of inequalities in Python's notation."""
    return [value for value in range(-99, 100) if eval(equation, {variable: value})]


HALF_HOUR = 30  # minutes
EXPECTED = {  # id -> the right answer, computed rather than copied
    "arithmetic-01": 37 + 48,
    "arithmetic-02": 36 + 48,
    "arithmetic-03": 9 * 7,
    "arithmetic-04": 8 * 8,
    "arithmetic-05": 125 + 50,
    "arithmetic-06": 125 + 40,
    "arithmetic-07": 12 * 6,
    "arithmetic-08": 13 * 6,
    "algebra-01": solutions("x + 7 == 12", "x"),
    "algebra-02": solutions("x + 7 == 11", "x"),
    "algebra-03": 3**2 + 1,
    "algebra-04": 4**2 + 1,
    "algebra-05": solutions("2 * x + 1 == 7", "x"),
    "algebra-06": solutions("2 * x + 1 == 5", "x"),
    "algebra-07": solutions("x ** 2 == 49 and x > 0", "x"),
    "algebra-08": solutions("x ** 2 == 36 and x > 0", "x"),
    "units-01": 3 * 10**3,
    "units-02": 2 * 10**3,
    "units-05": 5 * 10**2,
    "units-06": 7 * 10**2,
    "units-07": 5 * HALF_HOUR,
    "units-08": 6 * HALF_HOUR,
    "time-03": 2 + 3,
    "time-04": 3 + 3,
    "time-05": 11 - 8,
    "time-06": 10 - 8,
    "time-07": (date(2025, 1, 1) - date(2024, 1, 1)).days,
    "time-08": (date(2026, 1, 1) - date(2025, 1, 1)).days,
    "reading-05": 3,
    "reading-06": 5,
}


def test_numbers_in_the_shipped_pairs_are_right(tasks):
    by_id = {pair.id: pair for pair in tasks}
    for name, expected in EXPECTED.items():
        pair = by_id[name]
        assert [number(pair.correct)] == (expected if isinstance(expected, list) else [expected]), name
        assert number(pair.correct) not in {number(pair.incorrect), number(pair.incorrect2)}, name


def test_numbers_of_a_domain_are_all_recomputed(tasks):
    listed = {"units-03", "units-04"}  # inches in a foot and ounces in a pound: definitions, not computations
    for pair in tasks:
        if pair.domain in ("arithmetic", "algebra", "units", "time") and re.search(r"\d", pair.correct):
            assert pair.id in EXPECTED or pair.id in listed, pair.id


def test_code_in_the_shipped_pairs_gives_the_answer(tasks):
    code = [pair for pair in tasks if pair.domain == "code"]
    assert code
    for pair in code:
        (expression,) = re.findall(r"`([^`]+)`", pair.prompt)
        result = str(eval(expression))
        assert pair.correct == f" {result}", pair.id
        assert result not in {pair.incorrect.strip(), pair.incorrect2.strip()}, pair.id


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
        "algebra-same-01": lambda n: n in solutions("(x - 2) * (x - 5) == 0", "x"),
        "algebra-same-02": lambda n: n in solutions("10 < x < 19", "x"),
        "algebra-same-03": lambda n: n in solutions("(x - 1) * (x - 4) == 0", "x"),
        "science-same-03": lambda n: n in {3, 11, 19, 37, 55, 87},  # Li, Na, K, Rb, Cs, Fr
        "code-same-01": lambda n: n % 2 == 0,
        "code-same-03": lambda n: n > 5,
        "reading-same-03": lambda n: n in {3, 5},
        "units-same-01": lambda n: n > 1000,
        "units-same-03": lambda n: n > 60,
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
    assert pairs.check_equal_tokens(rows, tokenizer) == []
    for row in rows:
        first, *others = [pairs.encode(tokenizer, row.prompt, getattr(row, name))[0] for name in pairs.answers_of(row)]
        for other in others:
            assert sum(a != b for a, b in zip(first, other, strict=True)) == 1, row.id


@pytest.mark.smollm2
def test_texts_are_long_enough_in_smollm2_tokens(smollm2):
    from colocate.models import load_tokenizer

    tokenizer = load_tokenizer(smollm2)
    lengths = [len(tokenizer(text.text)["input_ids"]) for text in pairs.read_texts(TEXTS)]
    assert min(lengths) >= 300
    assert max(lengths) >= 512
    assert sum(lengths) >= 2048
