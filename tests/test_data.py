"""`data/verify.py`: it passes on the data as it is, and names what is wrong with a damaged copy."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"


def change(path: Path, found: str, make) -> None:
    """Replace the first row of a JSONL file with `found` in its id by make(row): a row, a list of rows, or nothing."""
    lines = path.read_text(encoding="utf-8").splitlines()
    index = next(i for i, line in enumerate(lines) if found in json.loads(line)["id"])
    rows = make(json.loads(lines[index]))
    rows = rows if isinstance(rows, list) else [rows]
    lines[index : index + 1] = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def answered(text: str):
    """Give a row of instruction data another answer."""
    return lambda row: row | {"messages": [row["messages"][0], {"role": "assistant", "content": text}]}


def asked(text: str):
    return lambda row: row | {"messages": [{"role": "user", "content": text}, row["messages"][1]]}


CODE = "def check(candidate):\n    assert candidate(2, 3) == 5\n"
LONG = "Anna and Ben walk along the river bank every morning before the first bus leaves the old town square"
DAMAGE = [  # file, id of the row, what happens to it, what must be said, in which section
    ("benchmarks/mini_math/test", "-add-1", {"answer": "8"}, "answer 8 is not 3 + 4 = 7", "mini_math"),
    ("benchmarks/mini_math/test", "-add-2", {"expression": "11 + 6"}, "numbers ['11', '6'] of the", "mini_math"),
    (
        "benchmarks/mini_math/test",
        "-add-3",
        {"id": "mini_math-val-add-1"},
        "'mini_math-val-add-1' occurs 2",
        "mini_math",
    ),
    ("benchmarks/mini_mgsm/test", "bread-fr", lambda row: [], "problem bread: expected de, en, es, fr", "mini_mgsm"),
    ("benchmarks/mini_mgsm/test", "train-de", {"expression": "20 - 3"}, "problem train: expected de, en", "mini_mgsm"),
    ("benchmarks/mini_mmlu/test", "mathematics-1", {"answer": 0}, "gold '48' is not 7 * 8 = 56", "mini_mmlu"),
    ("benchmarks/mini_mmlu/test", "logic-3", {"choices": ["A", "a", "b", "c"]}, "four different choices", "mini_mmlu"),
    ("benchmarks/mini_arc/test", "plants-1", {"answer": 1}, "test: gold positions are not balanced", "mini_arc"),
    (
        "benchmarks/mini_arc/validation",
        "plants-1",
        {"question": "What is paper made from?"},
        "occurs 2 times",
        "mini_arc",
    ),
    ("benchmarks/mini_gpqa/test", "ecology-1", lambda row: [], "test: 63 items, expected at least 64", "mini_gpqa"),
    (
        "benchmarks/mini_humaneval/test",
        "add_numbers",
        {"canonical_solution": "\n    return a - b"},
        "mini_humaneval-add_numbers: the reference solution fails",
        "mini_humaneval",
    ),
    ("benchmarks/mini_humaneval/test", "is_even", {"test": CODE}, "is_even: fewer than five tests", "mini_humaneval"),
    ("instructions/train", "wages-0", {"id": "wages-1"}, "id 'wages-1' occurs 2 times", "instructions"),
    ("instructions/train", "power-0", {"template": "discount"}, "template 'discount' is in another", "instructions"),
    (
        "instructions/train",
        "sum_of_two-0",
        answered("1 + 1 = 3. It is 3."),
        "equation '1 + 1 = 3' does",
        "instructions",
    ),
    ("instructions/train", "sum_of_two-1", answered("It is 1."), "sum_of_two-1: answer 1 is not", "instructions"),
    ("instructions/train", "sum_of_two-2", asked("What is 1 + 1?"), "sum_of_two-2: numbers [", "instructions"),
    ("instructions/train", "capital-0", answered("E. Atlantis"), "capital-0: expected one of four", "instructions"),
    (
        "instructions/train",
        "scale_list-0",
        answered("def scale_list(xs):\n    return xs"),
        "scale_list-0",
        "instructions",
    ),
    ("instructions/test", "tail-0", {"checks": []}, "programs fail their checks", "instructions"),
    ("instructions/train", "moved_object-0", asked(LONG), "moved_object-0 shares 'anna and ben", "instructions"),
    ("pairs/tasks", "", lambda row: row | {"incorrect": row["correct"]}, "tasks.jsonl:1", "pairs"),
]


def run_verify(folder: Path, cwd: Path) -> tuple[int, dict[str, list[str]]]:
    """Exit code, and {section: problems} as printed."""
    done = subprocess.run(
        [sys.executable, str(DATA / "verify.py"), str(folder)], cwd=cwd, capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    sections, problems = {}, []
    for line in done.stdout.splitlines():
        if line.startswith("    "):
            problems.append(line.strip())
        else:
            problems = sections.setdefault(line.partition(":")[0], [])
    return done.returncode, sections


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> dict[str, list[str]]:
    """What the program prints of a copy of the data with every damage at once."""
    folder = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(DATA, folder)
    for file, found, damage, _, _ in DAMAGE:
        make = damage if callable(damage) else lambda row, new=damage: row | new
        change(folder / f"{file}.jsonl", found, make)
    change(folder / "pairs" / "texts.jsonl", "", lambda row: row | {"text": f"{row['text']} {LONG}."})
    claims = folder / "published" / "claims.csv"
    header, first, *rest = claims.read_text(encoding="utf-8").splitlines()
    claims.write_text("\n".join([header, first + ",one more", *rest]), encoding="utf-8")
    code, sections = run_verify(folder, folder)
    assert code == 1
    return sections


def test_the_data_pass_wherever_the_program_is_started(tmp_path):
    code, sections = run_verify(DATA, tmp_path)
    assert not any(sections.values()), sections
    assert code == 0
    benchmarks = ["mini_mmlu", "mini_gpqa", "mini_arc", "mini_math", "mini_mgsm", "mini_humaneval"]
    assert list(sections) == ["pairs", *benchmarks, "instructions", "published"]


@pytest.mark.parametrize(("file", "found", "says", "section"), [(*row[:2], *row[3:]) for row in DAMAGE])
def test_a_damaged_row_is_named(damaged, file, found, says, section):
    assert any(says in problem for problem in damaged[section]), damaged[section]


def test_a_published_row_of_the_wrong_length_is_named(damaged):
    assert any("claims.csv: row 2" in problem for problem in damaged["published"])


def test_nothing_but_the_damage_is_named(damaged):
    assert sum(map(len, damaged.values())) < len(DAMAGE) + 12
