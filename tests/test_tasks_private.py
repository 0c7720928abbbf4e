"""GPQA, on made-up rows laid out as its repository: none of its words leave the evaluation, and its order is pinned."""

import csv
import json
import logging
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from colocate import contamination, evaluation
from colocate.files import write_json
from colocate.models import read_geometry
from references import BENCHMARKS, answered, load
from tiny import GEOMETRY

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "Idavidrein/gpqa"
CANARY = "quokkaversum"  # in every text of every row
TEXTS = ["Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3", "Explanation"]
ENTRY = {"task": "gpqa_main_zeroshot", "source": SOURCE, "private": True}
KINDS = ["gpqa_main_zeroshot", "gpqa_main_n_shot", "gpqa_main_cot_zeroshot", "gpqa_main_generative_n_shot"]


@pytest.fixture
def datasets(tmp_path) -> Path:
    """The repository: CSV files, one configuration each, everything in one split called train."""
    folder = tmp_path / "datasets" / SOURCE
    folder.mkdir(parents=True)
    for config in ("gpqa_main", "gpqa_diamond"):
        with (folder / f"{config}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*TEXTS, "Record ID"])
            for number in range(12):
                said = [f'{text} {number}, "{CANARY}{number}"\n[title] of it' for text in TEXTS]
                writer.writerow([*said, f"rec{number}"])
    parts = "".join(f"- config_name: {name}\n  data_files: {name}.csv\n" for name in ("gpqa_main", "gpqa_diamond"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{parts}---\n")
    return tmp_path / "datasets"


@pytest.mark.parametrize("task", KINDS)
def test_no_word_of_a_private_benchmark_is_returned_printed_or_logged(
    tiny_llama, datasets, tmp_path, capfd, caplog, task
):
    entry = ENTRY | {"task": task, "limit": 4, "max_new_tokens": 3, "num_fewshot": 1 if "n_shot" in task else 0}
    settings = {"seed": 1, "batch_size": 4, "sandbox": "auto"}
    with caplog.at_level(logging.DEBUG):
        summary, items = evaluation.evaluate(
            tiny_llama, None, "gpqa", entry, settings, dtype="float32", device="cpu", datasets_dir=datasets
        )
    assert (summary["status"], summary["n"]) == ("ok", 4)
    assert items["doc_hash"].is_unique
    printed = capfd.readouterr()
    for text in (json.dumps(summary), items.to_json(), printed.out, printed.err, caplog.text):
        assert CANARY not in text


def test_no_word_of_a_private_benchmark_is_in_a_file_of_the_job(tiny_llama, datasets, tmp_path):
    write_json(tmp_path / "geometry.json", read_geometry(tiny_llama) | {"dtype": "float32", "device": "cpu"})
    evaluated = {"seed": 1, "batch_size": 4, "sandbox": "auto", "chat_template": "auto"}
    settings = {
        "benchmark": "gpqa",
        "task": ENTRY | {"limit": 4},
        "evaluation": evaluated,
        "device": "cpu",
        "threads": 1,
    }
    out = tmp_path / "out"
    options = {
        "model": tiny_llama / "manifest.json",
        "geometry": tmp_path / "geometry.json",
        "data": datasets / SOURCE / "gpqa_main.csv",
        "summary": out / "gpqa.json",
        "per_item": out / "gpqa.items.parquet",
        "run": out / "gpqa.run.json",
        "log": out / "gpqa.log",
        "settings": json.dumps(settings),
    }
    script = ROOT / "workflow/scripts/evaluate_arm.py"
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_parquet(out / "gpqa.items.parquet")) == 4
    written = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in written} == {"gpqa.json", "gpqa.items.parquet", "gpqa.run.json", "gpqa.log"}
    for text in (done.stdout, done.stderr, *(path.read_bytes().decode(errors="ignore") for path in written)):
        assert CANARY not in text
    assert CANARY not in pd.read_parquet(out / "gpqa.items.parquet").to_json()


@pytest.mark.parametrize("task", KINDS)
def test_right_answers_score_one_and_wrong_ones_nothing(datasets, tmp_path, task):
    entry = ENTRY | {"task": task, "limit": 4, "num_fewshot": 1 if "n_shot" in task else 0}
    loaded = load(entry, datasets, tmp_path / "cache")
    assert answered(entry, loaded, right=True)["score"].eq(1.0).all()
    assert answered(entry, loaded, right=False)["score"].eq(0.0).all()


@pytest.mark.slow
def test_no_word_of_a_private_benchmark_is_in_a_finished_study(tiny_llama, datasets, checkout):
    """Results, logs, report and what the terminal shows: all that a study writes."""
    entry = {"source": f"path:{tiny_llama}", "geometry": GEOMETRY, "dtype": "float32"}
    checkout.configfiles.append("config/ci.yaml")
    checkout.overlay(
        "private",
        {
            "study": "private",
            "select": {"models": ["tiny"], "arms": ["base", "colocated"], "benchmarks": ["gpqa_main", "mini_arc"]},
            "models": {"tiny": entry},
            "layer_sets": {"sensitive": {"top": 1}, "positional": {"top": 1}},
            "benchmarks": {"gpqa_main": {"limit": 6}},
            "training": {"max_length": 1024},
            "mixture": {"drop_contaminated": True},
            "datasets_root": str(datasets),
        },
    )
    printed = checkout.snakemake().stdout
    written = [path for name in ("results", "reports", "logs") for path in (checkout.folder / name).rglob("*")]
    written = [path for path in written if path.is_file()]
    tables = [path for path in written if path.suffix == ".parquet"]
    assert sum(path.name == "gpqa_main.items.parquet" for path in tables) == 2
    texts = [path.read_bytes().decode(errors="ignore") for path in written]
    assert any("gpqa_main" in text for text in texts if text.startswith("<!"))  # the report has it
    for text in (printed, *texts, *(pd.read_parquet(path).to_json() for path in tables)):
        assert CANARY not in text


def test_contamination_names_private_items_by_their_digest_alone(datasets):
    benchmarks = {"gpqa": ENTRY}
    references = contamination.read_references([datasets / SOURCE / "README.md"], benchmarks)
    assert {name: len(items) for name, items in references.items()} == {SOURCE: 12}
    grams = contamination.Grams(references, n=5, private=contamination.private(benchmarks))
    text = next(iter(references[SOURCE].values()))[1]
    hits = grams.hits({"messages": [{"role": "user", "content": text}]})
    assert hits
    assert all(ngram == "" for _, _, ngram in hits)
    assert CANARY not in str(hits)


@pytest.mark.parametrize("task", KINDS[:2])
def test_the_order_of_choices_is_that_of_the_seed_whatever_was_drawn_or_cached_before(datasets, tmp_path, task):
    def orders(seed: int, cache: str, state: int) -> tuple[list, list]:
        random.seed(state)
        (one,) = load(ENTRY | {"task": task, "num_fewshot": 2}, datasets, tmp_path / cache, seed).values()
        random.seed(state + 1)
        found = [tuple(document[f"choice{i}"] for i in (1, 2, 3, 4)) for document in one.eval_docs]
        return found, [one.fewshot_context(document, 2) for document in one.eval_docs]

    first = orders(1, "a", 0)
    assert first == orders(1, "a", 5) == orders(1, "b", 7)
    assert orders(2, "a", 0)[0] != first[0]  # through the cache that the first seed filled
    assert len({order.index(max(order, key=lambda text: "Correct" in text)) for order in first[0]}) > 1
    for document_order, context in zip(*first, strict=True):
        assert document_order[0].strip().split("\n")[0] in context


def test_the_evaluation_of_a_private_benchmark_pairs_by_row(tiny_llama, datasets):
    settings = {"seed": 1, "batch_size": 4, "sandbox": "auto"}
    where = {"dtype": "float32", "device": "cpu", "datasets_dir": datasets, "benchmarks_dir": BENCHMARKS}
    one, two = (
        evaluation.evaluate(tiny_llama, None, "gpqa", ENTRY, settings | {"seed": s}, **where)[1] for s in (1, 2)
    )
    assert list(one["item"]) == list(two["item"])
    assert list(one["doc_hash"]) != list(two["doc_hash"])  # the same rows, asked in another order of choices
