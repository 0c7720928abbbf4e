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
ROWS = {"train": 32, "validate": 12, "test": 12}  # different questions of each template, where it has so many
TRIES = 60  # draws a row


def make_splits() -> dict[str, list[dict]]:
    for module in ("word_problems", "mathematics", "facts", "code", "languages", "reading", "logic"):
        importlib.import_module(f"templates.{module}")
    splits = {split: [] for split in ROWS}
    for template in REGISTRY.values():
        rng, examples = random.Random(f"{SEED} {template.name}"), {}
        rows = min(ROWS[template.split], template.most)
        for _ in range(TRIES * rows):
            example = template.draw(rng)
            examples.setdefault(example.question, example)
            if len(examples) == rows:
                break
        for number, example in enumerate(examples.values()):
            names = {"id": f"{template.name}-{number}", "template": template.name, "group": template.name}
            turns = [("user", example.question), ("assistant", example.answer)]
            verified = {"expression": example.expression} if example.expression else {}
            verified |= {"checks": list(example.checks)} if example.checks else {}
            messages = [{"role": role, "content": content} for role, content in turns]
            splits[template.split].append(names | {"source": "builtin", "messages": messages} | verified)
    return splits


def main() -> None:
    for split, rows in make_splits().items():
        text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
        (HERE / f"{split}.jsonl").write_text(text, encoding="utf-8")
        print(f"{split}: {len(rows)} rows from {len({row['template'] for row in rows})} templates")


if __name__ == "__main__":
    main()
