"""Verify all built-in data: pairs, mini benchmarks, instruction data, published claims.

    python data/verify.py [FOLDER]     # the data in FOLDER (default: beside this script); ends with code 1 on any error

pairs         fields, types, languages, distinct answers, unique ids (`colocate.pairs.check`)
benchmarks    sizes; ids and questions unique over both splits; four different choices with balanced gold positions;
              every number equal to the value of its `expression`, whose numbers all stand in the question; each
              MGSM-like problem once a language with one expression; each reference program passes its at least five
              tests in the sandbox, and a function that returns nothing fails them
instructions  sizes; ids and questions unique, no template in two splits; turns; every equation in an answer holds; an
              answer with an `expression` ends with its value; a choice names one of its four options; each program
              passes its `checks` in the sandbox; no 13 words in a row from a pair, a text or a benchmark item
published     claims readable, every row as long as the header, a source on every row that has the column

Arithmetic is exact (fractions), and is not the code that made the rows.
"""

import ast
import csv
import json
import operator
import re
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

from colocate import contamination, instructions, pairs
from colocate.errors import InputError

HERE = Path(__file__).resolve().parent
CHOICE, NUMBER, CODE = ("mini_mmlu", "mini_gpqa", "mini_arc"), ("mini_math", "mini_mgsm"), ("mini_humaneval",)
TEST_ITEMS = dict.fromkeys((*CHOICE, *NUMBER), 64) | dict.fromkeys(CODE, 32)  # at least
INSTRUCTIONS = {"train": (4000, 120), "validate": (300, 25), "test": (300, 25)}  # at least: rows, templates
LANGUAGES = ("de", "en", "es", "fr")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
WORDS = {"one quarter": Fraction(1, 4), "one half": Fraction(1, 2), "one eighth": Fraction(1, 8)}
# Numbers that a question gives in words: number of the expression -> pattern of what may stand for it.
IMPLIED = {
    "2": r"half|twice|[Dd]ouble|hens|all round|halfway",
    "3": r"mean of \d+, \d+ and",
    "4": r"square|cows|quarter",
    "7": r"weeks",
    "12": r"dozen",
    "60": r"hours",
    "100": r"percent|%|metres",
    "180": r"triangle|straight",
}


def value(expression: str) -> Fraction:
    """An arithmetic expression of integers, exactly."""

    def visit(node) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        return OPERATORS[type(node.op)](visit(node.left), visit(node.right))

    return visit(ast.parse(expression, mode="eval").body)


def verify(folder: Path = HERE) -> dict[str, list[str]]:
    """{what was verified: what is wrong with it, one line each} of the data in `folder`."""
    found = {"pairs": verify_pairs(folder)}
    found |= {name: verify_benchmark(folder, name) for name in TEST_ITEMS}
    return found | {"instructions": verify_instructions(folder), "published": verify_published(folder)}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verify_pairs(folder: Path) -> list[str]:
    tasks, paraphrases, texts = (folder / "pairs" / f"{name}.jsonl" for name in ("tasks", "paraphrases", "texts"))
    return pairs.check([tasks], [paraphrases], [texts])


# ------------------------------------------------------------------------------------------------------- benchmarks


def verify_benchmark(folder: Path, name: str) -> list[str]:
    splits = {split: read(folder / "benchmarks" / name / f"{split}.jsonl") for split in ("test", "validation")}
    rows = [row for part in splits.values() for row in part]
    check, question = _choice, "question"
    if name in NUMBER:
        check = _number
    elif name in CODE:
        check, question = _program, "prompt"
    found = _repeated([row["id"] for row in rows], "id") + _repeated([row[question] for row in rows], question)
    if len(splits["test"]) < TEST_ITEMS[name]:
        found.append(f"test: {len(splits['test'])} items, expected at least {TEST_ITEMS[name]}")
    found += [f"{row['id']}: {problem}" for row in rows for problem in check(row)]
    if name in CHOICE:
        for split, part in splits.items():
            positions = Counter(row["answer"] for row in part)
            if max(positions.values()) - min(positions[i] for i in range(4)) > 1:
                found.append(f"{split}: gold positions are not balanced: {dict(positions)}")
    if name == "mini_mgsm":
        found += _translations(rows)
    return found


def _repeated(values: list[str], what: str) -> list[str]:
    return [f"{what} {text!r} occurs {count} times" for text, count in Counter(values).items() if count > 1]


def _choice(row: dict) -> list[str]:
    found = []
    if len(row["choices"]) != 4 or len({choice.lower() for choice in row["choices"]}) != 4:
        found.append(f"expected four different choices, found {row['choices']}")
    if row["expression"]:
        gold = row["choices"][row["answer"]]
        number = WORDS.get(gold) or Fraction(re.match(r"-?\d+(\.\d+)?", gold).group())
        if number != value(row["expression"]):
            found.append(f"gold {gold!r} is not {row['expression']} = {value(row['expression'])}")
    return found


def _number(row: dict) -> list[str]:
    found = []
    if Fraction(row["answer"]) != value(row["expression"]):
        found.append(f"answer {row['answer']} is not {row['expression']} = {value(row['expression'])}")
    if missing := _absent(row["expression"], row["question"]):
        found.append(f"numbers {missing} of the expression are not in the question")
    return found


def _absent(expression: str, question: str) -> list[str]:
    """Numbers of the expression that do not stand in the question."""
    return sorted(set(re.findall(r"\d+", expression)) - set(re.findall(r"\d+", question)))


def _translations(rows: list[dict]) -> list[str]:
    by_problem: dict[str, list[dict]] = {}
    for row in rows:
        by_problem.setdefault(row["group"], []).append(row)
    found = []
    for problem, part in by_problem.items():
        languages, expressions = sorted(row["language"] for row in part), {row["expression"] for row in part}
        if languages != sorted(LANGUAGES) or len(expressions) != 1:
            wanted = f"{', '.join(LANGUAGES)}, once each, with one expression"
            found.append(f"problem {problem}: expected {wanted}; found {', '.join(languages)} with {expressions}")
    return found


def _program(row: dict) -> list[str]:
    from colocate.evaluation import sandbox

    def outcome(body: str) -> sandbox.Outcome:
        return sandbox.run(f"{row['prompt']}{body}\n\n{row['test']}\ncheck({row['entry_point']})\n")

    found = [] if row["test"].count("assert candidate(") >= 5 else ["fewer than five tests"]
    reference = outcome(row["canonical_solution"])
    if not reference.passed:
        found.append(f"the reference solution fails: {reference.reason}")
    if outcome("\n    return None").passed:
        found.append("a function that returns nothing passes")
    return found


# ----------------------------------------------------------------------------------------------------- instructions


def verify_instructions(folder: Path) -> list[str]:
    files = {split: folder / "instructions" / f"{split}.jsonl" for split in instructions.SPLITS}
    splits = {split: read(path) for split, path in files.items()}
    rows = [row for part in splits.values() for row in part]
    found = _repeated([row["id"] for row in rows], "id")
    found += _repeated([row["messages"][0]["content"] for row in rows], "question")
    for split, part in splits.items():
        least_rows, least_templates = INSTRUCTIONS[split]
        templates = {row["template"] for row in part}
        if len(part) < least_rows or len(templates) < least_templates:
            wanted = f"at least {least_rows} from {least_templates}"
            found.append(f"{split}: {len(part)} rows from {len(templates)} templates, expected {wanted}")
        elsewhere = {row[key] for other in splits if other != split for row in splits[other] for key in GROUPING}
        found += [f"{split}: template {name!r} is in another split" for name in sorted(templates & elsewhere)]
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        question, answer = row["messages"][0]["content"], row["messages"][-1]["content"]
        problems = [] if roles == ["user", "assistant"] else [f"expected one question and one answer, found {roles}"]
        problems += _equations(answer) + _options(question, answer)
        if "expression" in row:
            problems += _result(row["expression"], question, answer)
        found += [f"{row['id']}: {problem}" for problem in problems]
    found += _failing_programs([row for row in rows if "checks" in row])
    return found + _contamination(folder, files)


GROUPING = ("template", "group")


def _equations(answer: str) -> list[str]:
    """Equations of numbers in an answer whose sides differ; `^` is a power, `:` never stands in one."""
    side = r"[\d()][\d()/*+^ -]*"
    found = []
    for equation in re.findall(rf"(?<![\w.]){side}(?:= {side})+", answer):
        if len({value(part.strip().replace("^", "**")) for part in equation.split("=")}) != 1:
            found.append(f"equation {equation!r} does not hold")
    return found


def _result(expression: str, question: str, answer: str) -> list[str]:
    last = re.findall(r"\d+(?:/\d+)?", answer)[-1]
    found = [] if Fraction(last) == value(expression) else [f"answer {last} is not {expression} = {value(expression)}"]
    unsaid = [number for number in _absent(expression, question) if not _implied(number, question)]
    return found + ([f"numbers {unsaid} of {expression} are not in the question"] if unsaid else [])


def _implied(number: str, question: str) -> bool:
    return number in IMPLIED and re.search(IMPLIED[number], question) is not None


def _options(question: str, answer: str) -> list[str]:
    if "\nA. " not in question:
        return []
    options = question.split("\n")[-4:]
    if len({option[3:] for option in options}) != 4 or answer not in options:
        return [f"expected one of four different options, found {answer!r} of {options}"]
    return []


RUN_CHECKS = """
failed = []
for name, program, checks in {programs!r}:
    scope = {{}}
    try:
        exec(program, scope)
        passed = bool(checks) and all(eval(check, scope) for check in checks)
    except Exception:
        passed = False
    if not passed:
        failed.append(name)
assert not failed, " ".join(failed)
"""


def _failing_programs(rows: list[dict]) -> list[str]:
    """Ids of rows whose program fails a check; all in one run of the sandbox, each in a namespace of its own."""
    from colocate.evaluation import sandbox

    programs = [(row["id"], row["messages"][-1]["content"], row["checks"]) for row in rows]
    outcome = sandbox.run(RUN_CHECKS.format(programs=programs))
    return [] if outcome.passed else [f"programs fail their checks: {outcome.reason}"]


def _contamination(folder: Path, files: dict[str, Path]) -> list[str]:
    paths = [*sorted((folder / "pairs").glob("*.jsonl")), *sorted((folder / "benchmarks").rglob("*.jsonl"))]
    references = {str(path.relative_to(folder)): contamination.reference_texts(path) for path in paths}
    hits = contamination.find(files, references)
    return [f"{hit.split}: {hit.item} shares {hit.ngram!r} with {hit.reference}" for hit in hits.itertuples()]


# -------------------------------------------------------------------------------------------------------- published


def verify_published(folder: Path) -> list[str]:
    from colocate.statistics.claims import read_claims

    found = []
    for path in sorted((folder / "published").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                found.append(f"{path.name}: row {number}: {len(row)} fields, the header has {len(header)}")
            elif "source" in header and not row[header.index("source")].strip():
                found.append(f"{path.name}: row {number}: no source")
    try:
        read_claims(folder / "published" / "claims.csv")
    except InputError as error:
        found.append(str(error))
    return found


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    found = verify(folder)
    for name, problems in found.items():
        print(f"{name}: {'every check passed' if not problems else ''}")
        for problem in problems:
            print(f"    {problem}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
