"""Item level and pairs of the report: what is shown is in the files, bounded, escaped, and nothing of it is private."""

import json
import re
import shutil

import lxml.html
import pandas as pd
import pytest

import item_level
import synthetic
from colocate import report
from colocate.files import write_parquet
from colocate.report import items, pairs
from colocate.report.outside_text import shown
from colocate.results import load_inputs
from item_level import CONFIG, SELECT

CANARY = "BENCHMARK DATA SHOULD NEVER APPEAR"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = synthetic.make_study(tmp_path_factory.mktemp("items"))
    item_level.write_items(folder / synthetic.MODEL)
    item_level.write_pair_profiles(folder / synthetic.MODEL)
    return folder


@pytest.fixture
def study(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "results" / made.name)


@pytest.fixture
def folder(study):
    return study / synthetic.MODEL


def section(folder, select=SELECT, benchmarks=CONFIG["benchmarks"], **keywords):
    return items.section(folder, select, benchmarks, load_inputs(folder, ["contrasts"])["contrasts"], **keywords)


def write(study, config=CONFIG):
    out = study.parents[1] / "reports/synthetic.html"
    report.write_report(study, {synthetic.MODEL: SELECT}, out, config=config)
    return out.read_text(encoding="utf-8")


def right(folder, arm, benchmark) -> pd.Series:
    """Share of seeds that are right, by item, from the files alone."""
    parts = [pd.read_parquet(path) for path in folder.glob(f"evaluations/{arm}/seed*/{benchmark}.items.parquet")]
    return pd.concat(parts).groupby("item")["correct"].mean()


def test_default_pairs_are_the_reference_against_base_and_against_standard_lora(folder):
    found = section(folder)
    assert [(pair.a, pair.b) for pair in found["pairs"]] == [("colocated", "base"), ("colocated", "standard lora")]


def test_counts_are_those_of_the_files(folder):
    pair = section(folder)["pairs"][1]
    for name, n, a, b, note in pair.counts:
        gap = right(folder, "standard_lora", name.replace(" ", "_")) - right(
            folder, "colocated", name.replace(" ", "_")
        )
        assert (n, a, b, note) == (len(gap), (gap < 0).sum(), (gap > 0).sum(), "")
    assert pair.total == sum(a + b for _, _, a, b, _ in pair.counts)


def test_every_row_shown_differs_and_the_largest_differences_come_first(folder):
    for pair in section(folder)["pairs"]:
        by_benchmark = {}
        for row in pair.rows:
            a, b = (sum(mark for mark, _ in given) / len(given) for given in (row.a, row.b))
            assert a != b
            by_benchmark.setdefault(row.benchmark, []).append(abs(a - b))
        assert len(by_benchmark) > 3
        for gaps in by_benchmark.values():
            assert gaps == sorted(gaps, reverse=True)
            assert len(gaps) <= items.ROWS


def test_all_arms_come_along_for_a_choice_with_their_own_answers(folder):
    data = json.loads(section(folder)["data"])
    assert list(data["arms"]) == synthetic.ARMS
    for name, benchmark in data["benchmarks"].items():
        for one in benchmark["items"]:
            number = int(one["item"].rpartition("-")[2])
            for arm, given in one["answers"].items():
                assert [text for _, text in given] == [
                    f"answer {number} of {arm}, seed{seed}" for seed in synthetic.seeds_of(arm)
                ]
                assert sum(mark for mark, _ in given) / len(given) == right(folder, arm, name)[one["item"]]
            break  # reading the files for each item would take a minute


def test_a_small_budget_is_kept_and_said(study, folder):
    whole, small = section(folder), section(folder, budget=20_000)
    assert whole["n_kept"] == whole["n_differing"] == small["n_differing"]
    assert 6 <= small["n_kept"] < whole["n_kept"]
    assert len(small["data"]) < 30_000
    assert {name: benchmark["differing"] for name, benchmark in json.loads(small["data"])["benchmarks"].items()} == {
        name: benchmark["differing"] for name, benchmark in json.loads(whole["data"])["benchmarks"].items()
    }


def test_the_page_says_how_many_items_of_how_many(study, folder):
    text = re.sub(r"\s+", " ", lxml.html.fromstring(write(study)).text_content())
    found = section(folder)
    pair = found["pairs"][0]
    assert f"{found['n_differing']} items are such that at least two arms" in text
    assert "this page holds all of them" in text
    assert f"colocated against base: {len(pair.rows)} of {pair.total} items" in text


def test_nothing_of_a_private_benchmark_reaches_the_page_even_if_its_texts_were_written(study, folder):
    for path in folder.glob("evaluations/*/seed*/mini_gpqa.items.parquet"):
        table = pd.read_parquet(path).assign(prompt=CANARY, prediction=CANARY, target=CANARY)
        write_parquet(path, table)
    private = CONFIG["benchmarks"] | {"mini_gpqa": CONFIG["benchmarks"]["mini_gpqa"] | {"private": True}}
    assert CANARY in write(study), "the canary is seen where the benchmark is not private"
    page = write(study, CONFIG | {"benchmarks": private})
    assert CANARY not in page
    assert "mini_gpqa-00" not in page
    assert "(mini gpqa), are counted alone" in re.sub(r"\s+", " ", page)


def test_a_benchmark_that_the_config_does_not_know_is_taken_for_private(folder):
    known = {name: entry for name, entry in CONFIG["benchmarks"].items() if name != "mini_gpqa"}
    found = section(folder, benchmarks=known)
    assert found["private"] == ["mini gpqa"]
    assert "mini_gpqa" not in found["data"]


def test_an_arm_without_items_is_named_and_the_rest_stands(folder):
    for path in folder.glob("evaluations/standard_lora/seed*/mini_arc.items.parquet"):
        path.unlink()
    pair = section(folder)["pairs"][1]
    notes = {name: note for name, *_, note in pair.counts}
    assert notes["mini arc"] == "standard lora: not evaluated"
    assert notes["mini math"] == ""
    assert pair.rows


def test_without_items_or_with_one_arm_alone_the_page_is_still_written(study, folder):
    for path in folder.glob("evaluations/*/seed*/*.items.parquet"):
        if "/base/" not in str(path):
            path.unlink()
    assert section(folder)["pairs"] == []
    assert "No two arms have been evaluated yet" in write(study)
    for path in folder.glob("evaluations/base/seed*/*.items.parquet"):
        path.unlink()
    assert section(folder) is None
    assert "Item by item" not in write(study)


def test_other_arms_than_the_selected_ones_stay_out(folder):
    select = SELECT | {"arm": ["base", "colocated"]}
    found = section(folder, select)
    assert [arm for arm, _ in found["arms"]] == ["base", "colocated"]
    assert "standard_lora" not in found["data"]


# --- texts of a model ------------------------------------------------------------------------------------------------


def test_a_text_is_cut_and_says_by_how_much():
    assert shown("abc") == "abc"
    assert shown("x" * 1000, 100) == "x" * 100 + " [900 characters left out]"
    assert shown("begin " + "x" * 1000 + " end", 10, keep="end").startswith("[1,000 characters left out] ")
    assert shown("x" * 1000 + " end", 10, keep="end").endswith(" end")
    assert shown("\n".join("abc"), lines=2) == "a\nb\n [1 characters left out]"
    assert shown(None) == shown(float("nan")) == ""


def test_characters_that_turn_or_hide_text_are_named():
    assert shown("a\u202eb") == "aU+202Eb"
    assert shown("\x00\ufeff\ud800") == "U+0000U+FEFFU+D800"
    assert shown("tab\tand\nline") == "tab\tand\nline"
    assert shown("\u0627\u0644 שלום 日本 \U0001f600 é") == "\u0627\u0644 שלום 日本 \U0001f600 é"


def test_piled_marks_are_dropped_and_spelling_is_not():
    assert shown("a" + "\u0335" * 50 + "b") == "a" + "\u0335" * 3 + "b"
    assert shown("e\u0302\u0301") == "e\u0302\u0301"


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_every_pair_has_its_texts_and_its_own_profile(folder):
    found = pairs.section(folder, CONFIG, load_inputs(folder, ["correlations"])["correlations"])
    table = pd.read_parquet(folder / "profiles/sensitivity_all.items.parquet")
    assert found["n"] == found["n_measured"] == len(found["rows"]) == table["item"].nunique()
    for row in found["rows"][::20]:
        own = table[table["item"] == row.id].set_index("layer")["value"]
        assert row.line.layer == own.idxmax()
        heights = [float(point.partition(",")[2]) for point in row.line.points.split()]
        assert len(heights) == synthetic.L
        assert heights.index(min(heights)) == own.idxmax()  # y grows downwards
        assert all(0 <= height <= pairs.HEIGHT for height in heights)


def test_a_pair_that_was_not_measured_says_so(study, folder):
    path = folder / "profiles/sensitivity_all.items.parquet"
    table = pd.read_parquet(path)
    write_parquet(path, table[table["item"] == table["item"].iloc[0]])
    found = pairs.section(folder, CONFIG, load_inputs(folder, ["correlations"])["correlations"])
    assert found["n_measured"] == 1
    assert found["rows"][0].line is not None
    assert found["rows"][1].line is None
    assert "not measured" in write(study)
    path.unlink()
    assert "No profile of single pairs has been measured yet" in re.sub(r"\s+", " ", write(study))


@pytest.mark.parametrize(
    ("values", "layer"), [({0: 0.0, 1: 0.0}, 0), ({0: float("nan"), 1: 2.0, 2: 1.0}, 1), ({5: 1.0}, 5)]
)
def test_a_line_of_odd_values(values, layer):
    line = pairs.line(values)
    assert line.layer == layer
    assert "nan" not in line.points


def test_a_line_of_nothing_is_none():
    assert pairs.line({0: float("nan")}) is None


def test_made_pairs_are_read_where_the_profile_uses_them(folder):
    config = CONFIG | {"profiles": {"sensitivity_all": {"pairs": "made"}}}
    correlations = load_inputs(folder, ["correlations"])["correlations"]
    assert pairs.section(folder, config, correlations) is None
    made = folder / "pairs/made.jsonl"
    made.parent.mkdir()
    made.write_text(item_level.PAIRS.read_text().splitlines()[0] + "\n")
    assert pairs.section(folder, config, correlations)["n"] == 1
