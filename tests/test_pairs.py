"""Pairs: every kind of bad row is named by file, line and field; the shipped data are sound, true and fair."""

import json
import re
import subprocess
import sys
from calendar import monthrange
from collections import Counter
from datetime import date
from itertools import product
from pathlib import Path

import pytest

from colocate import pairs
from colocate.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data/pairs"
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
        (ROW | {"correct": " 1 + 1 = 2"}, "correct: repeats the prompt; expected the answer alone"),
        (ROW | {"language": "english"}, "language: 'english' is not a two-letter code of ISO 639-1"),
        (ROW | {"language": "xx"}, "language: 'xx' is not a two-letter code of ISO 639-1"),
        (ROW | {"language": ["en"]}, 'language: expected text, found ["en"]'),
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


def test_pairs_of_one_domain_alone_are_reported(tmp_path):
    path = write(tmp_path, ROW, ROW | {"id": "sum-02", "prompt": "3 - 1 ="})
    (problem,) = pairs.check(path)
    assert problem.startswith(f"{path}: domain: all 2 pairs are of 'arithmetic'")
    assert problem.endswith("add pairs of another, or give each kind of pair its own")
    path = write(tmp_path, ROW, ROW | {"id": "sum-02", "prompt": "3 - 1 =", "domain": "differences"})
    assert pairs.check(path) == []


def test_a_language_that_only_controls_have_is_reported(tmp_path):
    path = write(tmp_path, ROW)
    german = [SAME | {"id": f"same-0{n}", "language": "de", "prompt": f"Gerade {n}:"} for n in (2, 3)]
    same = write(tmp_path, SAME, *german, name="same.jsonl")
    (problem,) = pairs.check(path, same)
    assert problem.startswith(f"{same}:2: language: 'de' has no pairs, only controls; languages of the pairs: en;")


def test_what_only_sound_rows_can_tell_waits_for_them(tmp_path):
    path = write(tmp_path, ROW, ROW)
    assert all("is already used" in problem or "the same as" in problem for problem in pairs.check(path))


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


def test_tokens_of_answers_are_counted(tmp_path):
    from tiny import make_tokenizer

    found = pairs.read_pairs(
        write(
            tmp_path,
            ROW,
            ROW | {"id": "longer", "prompt": "30 + 3 =", "correct": " 33"},
            ROW | {"id": "other", "prompt": "5 * 5 =", "correct": " 25", "incorrect": " 35", "incorrect2": " 14"},
        )
    )
    assert pairs.count_tokens(found, make_tokenizer()) == {
        "n": 3,
        "equal": 2,
        "one_apart": 1,  # 25 and 14 differ in both digits
        "longest": 11,
        "unequal": {"longer": [3, 2, 2]},
    }


def test_windows_beyond_the_context_or_the_texts_are_reported():
    from tiny import make_tokenizer

    texts = [pairs.Text("a", "story", "en", "x" * 30), pairs.Text("b", "story", "en", "y" * 20)]
    assert pairs.check_windows(texts, make_tokenizer(), [16, 50], 64) == []
    assert pairs.check_windows(texts, make_tokenizer(), [16, 51, 65], 64) == [
        "text_tokens: found 51, all texts together have 50 tokens",
        "text_tokens: found 65, the model takes 64",
    ]


def run_script(name: str, report: Path, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / f"workflow/scripts/{name}.py", "--report", report]
    for option, value in options.items():
        command += [f"--{option}", value]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)


def test_the_script_of_the_files_names_every_bad_row(tmp_path):
    report, shipped = tmp_path / "report.json", {"paraphrases": PARAPHRASES, "texts": TEXTS}
    assert run_script("check_pairs", report, pairs=TASKS, **shipped).returncode == 0
    assert set(json.loads(report.read_text())["sha256"]) == {str(path) for path in (TASKS, PARAPHRASES, TEXTS)}

    bad = write(tmp_path, ROW | {"prompt": 7}, ROW | {"correct": " 3"})
    done = run_script("check_pairs", tmp_path / "none.json", pairs=bad, **shipped)
    assert done.returncode != 0
    assert f"{bad}:1: prompt: expected text, found 7" in done.stderr
    assert f"{bad}:2: incorrect: ' 3' is the same answer as correct" in done.stderr
    assert not (tmp_path / "none.json").exists()


def test_the_script_of_the_tokens_checks_against_the_context(tmp_path, copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    shipped = {"model": copy / "manifest.json", "paraphrases": PARAPHRASES, "texts": TEXTS}
    long = write(tmp_path, ROW, ROW | {"id": "long", "domain": "long", "prompt": "1 + 0 " * 30 + "="})
    settings = json.dumps({"limit": 100, "text_tokens": [64, 129]})
    done = run_script("check_tokens", tmp_path / "none.json", pairs=long, settings=settings, **shipped)
    assert done.returncode != 0
    assert f"{long}:2: correct: 183 tokens with the prompt, the model takes 128" in done.stderr
    assert "text_tokens: found 129, the model takes 128" in done.stderr

    report, settings = tmp_path / "report.json", json.dumps({"limit": 1, "text_tokens": [64]})
    done = run_script("check_tokens", report, pairs=long, settings=settings, **shipped)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert (found["context"], found["pairs"]["n"], found["paraphrases"]["n"]) == (128, 1, 1)
    assert set(found["texts"]) == {text.id for text in pairs.read_texts(TEXTS)}


def test_a_config_without_a_context_is_named(copy):
    from colocate.geometry import context_length

    assert context_length(copy) == 1024
    (copy / "config.json").write_text('{"text_config": {"max_position_embeddings": 77}}')
    assert context_length(copy) == 77
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match="model/config.json: max_position_embeddings: found None, expected a whole"):
        context_length(copy, name="model")


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
