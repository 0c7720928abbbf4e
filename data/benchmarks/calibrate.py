"""How hard each template and level of the number benchmarks is, measured on a draw that is then thrown away.

    python data/benchmarks/calibrate.py MODEL_FOLDER        # rewrites calibration.csv beside this script

A draw has the wordings of the test items with new numbers of the same size (0.6 to 1.6 times as large; every step a
positive whole number; no question of the test or the validation split). The model answers the draws as it answers the
benchmark. What is kept is the share of right answers by template and level, never an item: the test items are written
without looking at the model's answers, so the base scores are not biased upwards or downwards by choice.

level   mini_math: 1 to 4, the size of the numbers of a template's items; mini_mgsm: the number of steps
"""

import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

from colocate.evaluation import evaluate

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from verify import read, value  # noqa: E402 (beside this script's folder, not a package)

SEED, DRAWS = 20260411, 4
KEPT = {"change": 0, "pizza": 1}  # the number of an expression that stays: bank notes; a number also given as a word


def level(row: dict) -> str:
    return str(len(re.findall(r"[-+*/]", row["expression"]))) if "language" in row else row["id"].rsplit("-", 1)[1]


def redraw(row: dict, draw: int) -> dict:
    """The item with new numbers; translations of one problem get the same ones."""
    rng = random.Random(f"{SEED} {draw} {row['group']} {row['expression']}")
    old = re.findall(r"\d+", row["expression"])
    while True:
        new = {number: str(rng.randint(max(2, round(0.6 * int(number))), round(1.6 * int(number)))) for number in old}
        if row["group"] in KEPT:
            new[old[KEPT[row["group"]]]] = old[KEPT[row["group"]]]
        expression = _replaced(row["expression"], new)
        result = value(expression)
        if result > 0 and result.denominator == 1 and expression != row["expression"] and len(set(new.values())) > 1:
            question = _replaced(row["question"], new)
            return row | {"question": question, "expression": expression, "answer": str(result)}


def _replaced(text: str, new: dict[str, str]) -> str:
    return re.sub(r"\d+", lambda found: new.get(found.group(), found.group()), text)


def calibrate(benchmark: str, model: Path) -> pd.DataFrame:
    """Columns benchmark, template, level, language, n (answers), accuracy."""
    test = read(HERE / benchmark / "test.jsonl")
    known = {row["question"] for row in test + read(HERE / benchmark / "validation.jsonl")}
    answered = []
    for draw in range(DRAWS):
        rows = [redraw(row, draw) for row in test]
        rows = [row for row in rows if row["question"] not in known]
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(HERE / benchmark, Path(folder, benchmark))
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            Path(folder, benchmark, "test.jsonl").write_text("".join(lines), encoding="utf-8")
            _, items = evaluate(
                model,
                None,
                benchmark,
                {"task": benchmark},
                {"seed": 1234, "batch_size": 8, "sandbox": "auto"},
                dtype="bfloat16",
                device="cpu",
                benchmarks_dir=Path(folder),
            )
        asked = [prompt.rsplit("\n", 2)[1].split(": ", 1)[1] for prompt in items["prompt"]]
        scores = dict(zip(asked, items["score"], strict=True))
        answered += [
            (benchmark, row["group"], level(row), row.get("language", "en"), scores[row["question"]]) for row in rows
        ]
    table = pd.DataFrame(answered, columns=["benchmark", "template", "level", "language", "score"])
    grouped = table.groupby(["benchmark", "template", "level", "language"], sort=False)["score"]
    return grouped.agg(n="size", accuracy="mean").reset_index()


def main() -> None:
    model = Path(sys.argv[1])
    table = pd.concat([calibrate(name, model) for name in ("mini_math", "mini_mgsm")])
    table.round(3).to_csv(HERE / "calibration.csv", index=False)
    for key in ("template", "level", "language"):
        print(
            table.assign(right=table.n * table.accuracy).groupby(["benchmark", key], sort=False)[["right", "n"]].sum()
        )


if __name__ == "__main__":
    main()
