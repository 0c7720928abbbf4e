"""Made-up items and pairs beside the synthetic study: answers of every evaluation, a profile of every shipped pair."""

from pathlib import Path

import numpy as np
import pandas as pd

import synthetic
from colocate import pairs, report
from colocate.evaluation.items import COLUMNS
from colocate.files import read_json, write_parquet
from colocate.results import load_inputs

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ROOT / "data/pairs/tasks.jsonl"
CONFIG = {
    "study": synthetic.STUDY,
    "select": {"models": [synthetic.MODEL]},
    "benchmarks": {name: {"task": name, "source": "builtin", "private": False} for name in synthetic.BENCHMARKS},
    "pairs": {"files": [str(PAIRS)]},
    "statistics": {"primary_sensitivity": "sensitivity_all"},
}
SELECT = {"arm": synthetic.ARMS, "benchmark": list(synthetic.BENCHMARKS), "profile": synthetic.PROFILES}
HOSTILE = {
    "script": "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>",
    "markup": '"><iframe src="javascript:parent.harmed = 3"></iframe><style>* { display: none }</style><!--',
    "template": "{{ 7 * 7 }}{% raw %}${7 * 7}",
    "long line": "x" * 5000,
    "many lines": "\n" * 3000,
    "right to left": "\u202eright to left\u2066 and never back",
    "arabic": "\u0627\u0644\u0625\u062c\u0627\u0628\u0629 42",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea" * 40,
    "marks": "a" + "\u0335\u0316" * 500,
    "controls": "\x00\x07\x1b[31m\ufeff\u200b",
    "huge": "</td>" * 2_000_000,
}


def make_study(root: Path) -> Path:
    """The synthetic study with all that a page can hold: figures and their tables, items, a profile of every pair."""
    study = synthetic.make_study(root)
    folder = study / synthetic.MODEL
    synthetic.draw_figures(folder, load_inputs(folder, select=SELECT), kinds=("svg",))
    write_pair_profiles(folder)
    path = folder / "profiles/sensitivity_all.items.parquet"
    table = pd.read_parquet(path)
    missing, faint = table["item"].unique()[:2]  # neither a dash nor a power of ten may spoil the order of a column
    table["value"] *= np.where(table["item"] == faint, 1e-7, 1)
    write_parquet(path, table[table["item"] != missing])
    write_items(folder)
    return study


def write_page(study: Path, name: str) -> Path:
    out = study.parents[1] / f"reports/{name}.html"
    report.write_report(study, {synthetic.MODEL: SELECT}, out, config=CONFIG)
    return out


def item(benchmark: str, number: int) -> str:
    return f"{benchmark}-{number:04d}"


def write_items(folder: Path, texts: dict[str, str] | None = None) -> None:
    """Items of every evaluation of the synthetic model in `folder`; `texts` take turns as answers and as prompts."""
    hostile = list((texts or {}).values())
    for path in sorted(folder.glob("evaluations/*/seed*/*.json")):
        if path.name.endswith(".run.json"):
            continue
        summary, benchmark = read_json(path), path.stem
        if summary["status"] != "ok":
            continue
        n, arm, seed = summary["n"], path.parts[-3], path.parts[-2]
        correct = synthetic.rng_of("items", arm, seed, benchmark).random(n) < summary["accuracy"]
        rows = []
        for number in range(n):
            said = hostile[number % len(hostile)] if hostile else f"answer {number} of {arm}, {seed}"
            asked = hostile[(number + 1) % len(hostile)] if hostile else f"Question {number} of {benchmark}?"
            name = item(benchmark, number)
            scores = [name, name, "g", bool(correct[number]), float(correct[number]), -2.0, 3, None]
            rows.append([*scores, said, f"target {number}", asked])
        write_parquet(path.with_suffix(".items.parquet"), pd.DataFrame(rows, columns=COLUMNS))


def write_pair_profiles(folder: Path, name: str = "sensitivity_all") -> None:
    """A profile of every shipped pair."""
    value = pd.read_csv(folder / f"profiles/{name}.csv")["value"].to_numpy()
    rows = []
    for pair in pairs.read_pairs(PAIRS):
        noise = synthetic.rng_of(pair.id).normal(1, 0.2, len(value))
        rows += [[pair.id, layer, one] for layer, one in enumerate(np.abs(value * noise))]
    write_parquet(folder / f"profiles/{name}.items.parquet", pd.DataFrame(rows, columns=["item", "layer", "value"]))
