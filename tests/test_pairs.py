"""Pairs: every kind of bad row is named by file, line and field, and what the rules' scripts make of it."""

import json
import subprocess
import sys
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
