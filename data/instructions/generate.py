"""Write train.jsonl, validate.jsonl and test.jsonl: the built-in instruction data, made from templates with one seed.

    python data/instructions/generate.py          # rewrites the three files beside this script

Every template draws from its own generator, so that a new one changes no row of the others. `group` is the template:
none is in two splits. No text comes from a data set.
"""

import importlib
import json
import random
from pathlib import Path

from templates import REGISTRY

HERE = Path(__file__).resolve().parent
SEED = 20260408
ROWS = {"train": 8, "validate": 3, "test": 3}  # different questions of each template


def make_splits() -> dict[str, list[dict]]:
    for module in ("arithmetic", "facts", "code", "languages", "reading"):
        importlib.import_module(f"templates.{module}")
    splits = {split: [] for split in ROWS}
    for template in REGISTRY.values():
        rng, questions = random.Random(f"{SEED} {template.name}"), {}
        while len(questions) < ROWS[template.split]:
            question, answer = template.draw(rng)
            questions.setdefault(question, answer)
        for number, (question, answer) in enumerate(questions.items()):
            names = {"id": f"{template.name}-{number}", "template": template.name, "group": template.name}
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            splits[template.split].append(names | {"source": "builtin", "messages": turns})
    return splits


def main() -> None:
    for split, rows in make_splits().items():
        text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
        (HERE / f"{split}.jsonl").write_text(text, encoding="utf-8")
        print(f"{split}: {len(rows)} rows from {len({row['template'] for row in rows})} templates")


if __name__ == "__main__":
    main()
