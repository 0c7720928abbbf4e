"""Recompute the gold answers of the mini benchmarks and check their rows.

    python data/benchmarks/verify.py          # prints one line a benchmark; ends with code 1 if anything is wrong

Checked: identifiers and questions are unique, over both splits; four different choices, gold positions balanced;
answers that are numbers equal their `expression`, whose numbers all stand in the question; each MGSM-like problem has
the same expression in four languages; each reference solution passes its at least five tests in the sandbox, and a
function that returns nothing fails them.
"""

import ast
import json
import operator
import re
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHOICE, NUMBER, CODE = ("mini_mmlu", "mini_gpqa", "mini_arc"), ("mini_math", "mini_mgsm"), ("mini_humaneval",)
LANGUAGES = {"en", "es", "fr", "de"}
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
WORDS = {"one quarter": Fraction(1, 4), "one half": Fraction(1, 2), "one eighth": Fraction(1, 8)}


def read(benchmark: str) -> dict[str, list[dict]]:
    """{split: rows} of a benchmark."""
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted((HERE / benchmark).glob("*.jsonl"))
    }


def value(expression: str) -> Fraction:
    """An arithmetic expression of integers, exactly."""

    def visit(node) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        return OPERATORS[type(node.op)](visit(node.left), visit(node.right))

    return visit(ast.parse(expression, mode="eval").body)


def problems(benchmark: str) -> list[str]:
    """What is wrong with a benchmark, one line each; empty if nothing."""
    splits = read(benchmark)
    rows = [row for split in splits.values() for row in split]
    found = _repeated([row["id"] for row in rows], "id")
    if benchmark in CHOICE:
        found += _repeated([row["question"] for row in rows], "question")
        found += [f"{row['id']}: {problem}" for row in rows for problem in _choice(row)]
        for split, part in splits.items():
            positions = Counter(row["answer"] for row in part)
            if max(positions.values()) - min(positions[i] for i in range(4)) > 1:
                found.append(f"{split}: gold positions are not balanced: {dict(positions)}")
    elif benchmark in NUMBER:
        found += _repeated([row["question"] for row in rows], "question")
        found += [f"{row['id']}: {problem}" for row in rows for problem in _number(row)]
        if benchmark == "mini_mgsm":
            found += _translations(rows)
    else:
        found += [f"{row['id']}: {problem}" for row in rows for problem in _program(row)]
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
    missing = set(re.findall(r"\d+", row["expression"])) - set(re.findall(r"\d+", row["question"]))
    if missing:
        found.append(f"numbers {sorted(missing)} of the expression are not in the question")
    return found


def _translations(rows: list[dict]) -> list[str]:
    by_problem: dict[str, list[dict]] = {}
    for row in rows:
        by_problem.setdefault(row["group"], []).append(row)
    return [
        f"problem {problem}: expected one row a language and one expression"
        for problem, part in by_problem.items()
        if sorted(row["language"] for row in part) != sorted(LANGUAGES) or len({row["expression"] for row in part}) != 1
    ]


def _program(row: dict) -> list[str]:
    from colocate.evaluation import sandbox

    def passes(body: str) -> sandbox.Outcome:
        return sandbox.run(f"{row['prompt']}{body}\n\n{row['test']}\ncheck({row['entry_point']})\n")

    found = [] if row["test"].count("assert candidate(") >= 5 else ["fewer than five tests"]
    outcome = passes(row["canonical_solution"])
    if not outcome.passed:
        found.append(f"the reference solution fails: {outcome.reason}")
    if passes("\n    return None").passed:
        found.append("a function that returns nothing passes")
    return found


def main() -> int:
    wrong = 0
    for benchmark in (*CHOICE, *NUMBER, *CODE):
        found = problems(benchmark)
        counts = ", ".join(f"{split} {len(rows)}" for split, rows in read(benchmark).items())
        print(f"{benchmark}: {counts}: {'; '.join(found) or 'every check passed'}")
        wrong += len(found)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
