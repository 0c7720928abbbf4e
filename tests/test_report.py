"""The report: its numbers are those of the files, its gaps are named, and the page stands alone."""

import re
import shutil

import lxml.html
import pandas as pd
import pytest
import yaml

import synthetic
from colocate import figures, report
from colocate.errors import InputError
from colocate.files import read_json, write_csv, write_json
from colocate.report import bill, gains, question
from colocate.report import page as report_page
from colocate.results import load_inputs

SELECT = {"arm": synthetic.ARMS, "benchmark": list(synthetic.BENCHMARKS), "profile": synthetic.PROFILES}
CONFIG = {
    "study": synthetic.STUDY,
    "select": {"models": [synthetic.MODEL]},
    "benchmarks": {name: {"task": name, "source": "builtin"} for name in synthetic.BENCHMARKS},
}
ENVIRONMENT = {
    "versions": {"numpy": ["2.4.6"], "torch": ["2.12.0", "2.13.0"]},
    "machines": [
        {"host_machine": "x86_64", "gpu_name": "H200", "device": "cuda", "dtype": "bfloat16", "threads": 2, "jobs": 7},
        {"host_machine": None, "gpu_name": None, "device": "cpu", "dtype": "float32", "threads": 1, "jobs": 3},
    ],
}
WRITE = {"config": CONFIG, "aliases": {"the_same_again": "random"}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = synthetic.make_study(tmp_path_factory.mktemp("report"))
    inputs = load_inputs(folder / synthetic.MODEL, select=SELECT)
    synthetic.draw_figures(folder / synthetic.MODEL, inputs)
    write_json(folder / "environment.json", ENVIRONMENT)
    return folder


@pytest.fixture(scope="module")
def inputs(study):
    return load_inputs(study / synthetic.MODEL, select=SELECT)


@pytest.fixture(scope="module")
def page(study):
    out = study.parents[1] / "reports/synthetic.html"
    claims = study / synthetic.MODEL / "statistics/claims.csv"
    report.write_report(study, {synthetic.MODEL: SELECT}, out, claims=claims, **WRITE)
    return lxml.html.fromstring(out.read_text(encoding="utf-8"))


def text(page) -> str:
    return re.sub(r"\s+", " ", page.text_content()).replace("\u2060", "")


def cells(page, caption: str) -> dict[str, list[str]]:
    """{row header: cells} of the table with this caption."""
    table = next(table for table in page.iter("table") if table.findtext("caption") == caption)
    rows = table.xpath("./tbody/tr")
    clean = [[text(cell).strip() for cell in row] for row in rows]
    return {row[0]: row[1:] for row in clean}


def test_same_results_give_the_same_bytes(study, tmp_path):
    for name in ("a", "b"):
        report.write_report(study, {synthetic.MODEL: SELECT}, tmp_path / name, **WRITE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_banner_names_the_model_its_size_and_what_mini_means(page):
    banner = text(page.xpath("//div[@class='banner']")[0])
    for words in ("made-up-model", "135 M parameters", "30 layers", "9 query heads, 3 KV heads", "grouped-query"):
        assert words in banner
    assert "All benchmarks here are mini benchmarks" in banner
    assert "272 items" in banner
    assert "cannot be compared with published ones" in banner
    assert "another model" in banner
    assert "run in float32, weights that were quantised to Q4_1, Q8_0." in banner
    limits = text(page.get_element_by_id("made-up-model-limits").getnext())
    assert "weights that were quantised to Q4_1, Q8_0: a coarser model than the one its authors released" in limits


def test_every_formula_of_section_7_is_there(page):
    terms = [text(term) for term in page.xpath("//dt")]
    for words in (
        *("Pool", "Noise floor", "Selection probability", "rs, and given depth", "Reliability R", "p given depth"),
        *("r without item noise", "Modified t", "Joint p over all readings", "Share of variance of a choice"),
        *("Gold log-probability, margin", "Standard error of an accuracy", "Contrast", "p, Holm", "Regret"),
        *("Smallest detectable difference", "Change on neutral text", "Training compute", "Composite"),
    ):
        assert words in terms, words


def test_the_answer_stands_first_then_three_findings(page):
    assert text(page.xpath("//p[@class='answer']")[0]) == "Inconclusive: every number on this page is made up."
    items = page.xpath("//ol[@class='findings']/li")
    assert [item.findtext("strong") for item in items] == ["The two profiles.", "The arms.", "What to adapt."]
    assert "rs = −0.85" in text(items[0])
    assert "sensitivity all and rope output" in text(items[0])


def test_verdicts_of_both_settings_with_what_was_measured(page):
    rows = cells(page, "Verdict on the published claims")
    row = rows["A made-up claim about colocated best"]
    assert row[:4] == ["does not hold here (smaller)", "4 to 16 points", "−1.2 (−8.1 to 3.0)", "4 points"]
    assert len(rows) == 3
    assert list(cells(page, "Published claims that this study cannot judge")) == ["A made-up claim about haiku"]
    assert "made on another model" in cells(page, "Sources of the claims")["A made-up claim about haiku"]
    assert "In the published setting itself tested: 0" in text(page)
    tally = [text(item).strip() for item in page.xpath("//ul[@class='tally']/li")]
    assert tally == ["1 holds here", "1 does not hold here", "1 cannot tell", "1 not tested"]
    assert page.xpath("//span[@class='badge does-not-hold-here']")


def test_correlation_table_holds_all_p_values_and_warns_of_the_plain_one(page, inputs):
    rows = cells(page, "Their p values")
    row = inputs["correlations"].query("primary").iloc[0]
    assert rows["sensitivity all and rope output (primary)"] == ["0.21", "0.32", "0.030", "0.11", "< 0.001"]
    assert row["p_plain"] < 0.001
    heads = [cell.text_content() for cell in page.xpath("//th[@scope='col']")]
    assert "plain t, as printed; not valid for neighbouring layers" in heads
    sizes = cells(page, "Rank correlations of sensitivity and RoPE influence")
    assert next(iter(sizes)) == "sensitivity all and rope output (primary)"  # the primary pair first
    assert sizes["sensitivity all and rope output (primary)"][0] == f"{row['r_s']:.2f}".replace("-", "−")


def test_benchmark_table_agrees_with_the_files(page, study):
    rows = cells(page, gains.benchmarks(load_inputs(study)).caption)
    folder = study / synthetic.MODEL / "evaluations/colocated"
    accuracy = [read_json(folder / f"seed{seed}/mini_math.json")["accuracy"] for seed in synthetic.SEEDS]
    assert rows["colocated"][0] == "2"
    assert rows["colocated"][4].startswith(f"{100 * sum(accuracy) / 2:.1f} (")
    assert rows["base"][0] == "1"
    assert rows["mid block"][3] == "not run: no sandbox"
    assert rows["mid block"][-1] == "–"  # no mean over benchmarks where one is missing


def test_primary_contrasts_are_apart_from_the_exploratory_ones(page, inputs):
    primary = cells(page, "Primary contrasts")
    assert len(primary) == 5
    row = inputs["contrasts"].iloc[0]
    shown = primary[f"colocated − {row['arm_b'].replace('_', ' ')}"]
    assert shown[1] == f"{100 * row['difference']:+.1f} points".replace("-", "−")
    assert shown[-2:-1] == ["2"]
    exploratory = cells(page, "Exploratory contrasts: not corrected, they suggest and do not show")
    assert "colocated − mid block" in exploratory


def test_budget_compute_and_power_carry_units(page):
    arms = cells(page, "What each arm trains")
    assert arms["standard lora"][5] == "−81,432 (−6.25 %)"
    assert arms["colocated"][0] == "20–27"
    training = cells(page, "Training, per run: mean over seeds, largest memory")
    assert training["colocated"][:4] == ["1,302,552", "2", "24,000", "19.4 TFLOP"]
    whole = cells(page, "The study by kind of job")
    assert whole["all jobs"][0] == str(5 + 14 + 90)
    assert whole["all jobs"][-1].endswith(" USD")
    power = cells(page, "Power: what a contrast with the reference arm would show four times in five, at 5 %")
    assert power["composite"][1].endswith((" points", " nat"))


def test_versions_that_differ_between_jobs_are_both_shown(page):
    assert cells(page, "Software of the jobs") == {"numpy": ["2.4.6"], "torch": ["2.12.0, 2.13.0"]}


def test_each_kind_of_machine_is_shown_with_its_jobs(page):
    assert cells(page, "Machines of the jobs") == {
        "x86-64 with H200": ["cuda", "bfloat16", "2", "7"],
        "unknown": ["cpu", "float32", "1", "3"],
    }


def test_config_aliases_contamination_and_limits_are_there(page):
    assert yaml.safe_load(page.xpath("//pre[@aria-label='Configuration as YAML']")[0].text_content()) == CONFIG
    said = text(page)
    assert "the same again is random" in said
    assert "a train leaves the station" in said
    assert "mini humaneval has no score for 2 of the evaluations (not run: no sandbox)" in said
    assert "2 training seeds" in said


def test_every_figure_is_inlined_once_with_a_name_and_no_id_twice(page):
    names = [svg.get("aria-label") for svg in page.iter("svg")]
    assert sorted(names) == sorted(entry.title for entry in figures.FIGURES.values())
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    drawn = "".join(lxml.html.tostring(svg).decode() for svg in page.iter("svg"))
    used = set(re.findall(r"url\(#([^)]+)\)", drawn))
    assert used <= set(ids)
    assert {link.lstrip("#") for link in page.xpath("//nav//a/@href")} <= set(ids)


def test_figures_follow_the_theme_and_nothing_is_loaded(page):
    html = "".join(lxml.html.tostring(svg).decode() for svg in page.iter("svg"))
    assert "stroke: #0072b2" not in html
    assert "stroke: var(--blue)" in html
    assert not page.xpath("//script[@src] | //link[not(@href='data:,')] | //iframe")
    loaded = page.xpath("//@src | //image/@*[contains(name(), 'href')]")
    assert all(address.startswith("data:") for address in loaded)
    assert "Matplotlib" not in html  # the metadata block is gone


def test_tables_have_captions_and_scopes(page):
    tables = page.xpath("//table")
    assert len(tables) > 12
    for table in tables:
        assert table.findtext("caption")
        heads = table.xpath("./thead//th[@scope='col']")
        rows = table.xpath("./tbody/tr")
        assert rows
        for row in rows:
            assert len(row) == len(heads)
            assert row[0].tag == "th"
            assert row[0].get("scope") == "row"


def test_an_empty_study_is_reported_as_empty(tmp_path):
    folder = tmp_path / "results/bare"
    (folder / "some-model").mkdir(parents=True)
    report.write_report(folder, {"some-model": {}}, tmp_path / "r.html", config={"study": "bare"})
    said = text(lxml.html.fromstring((tmp_path / "r.html").read_text()))
    for words in (
        "there is no answer yet",
        "No claim has been judged",
        "This figure has not been drawn",
        "No arm has been evaluated",
        "No primary contrast has been computed",
        "No training run has been recorded",
        "has not been checked against the benchmarks",
        "No versions have been recorded",
    ):
        assert words in said


def test_one_seed_is_called_so(study, tmp_path):
    inputs = load_inputs(study / synthetic.MODEL, select=SELECT | {"seed": [0]})
    assert any("One training seed" in sentence for sentence in question.limits(inputs, CONFIG))


def test_a_clean_mixture_is_said_to_be_clean(study, tmp_path):
    folder = tmp_path / "results/clean"
    shutil.copytree(study, folder)
    empty = pd.DataFrame(columns=["split", "item", "reference", "reference_item", "ngram"])
    write_csv(folder / "mixture/contamination.csv", empty)
    report.write_report(folder, {synthetic.MODEL: SELECT}, tmp_path / "r.html", **WRITE)
    page = lxml.html.fromstring((tmp_path / "r.html").read_text())
    assert "No example of the training mixture shares a passage of 13 words" in text(page)


def test_two_models_have_their_own_sections_and_a_table_side_by_side(study, tmp_path):
    folder = tmp_path / "results/two"
    shutil.copytree(study, folder)
    shutil.copytree(folder / synthetic.MODEL, folder / "other-model")
    across = pd.DataFrame({"model": [synthetic.MODEL, "other-model"], "r_s": [-0.85, 0.1]})
    write_csv(folder / "across_models.csv", across)
    report.write_report(folder, {synthetic.MODEL: SELECT, "other-model": SELECT}, tmp_path / "r.html", **WRITE)
    page = lxml.html.fromstring((tmp_path / "r.html").read_text())
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {"made-up-model-answer", "other-model-answer", "across"} <= set(ids)
    assert cells(page, "The models side by side")["other-model"] == ["0.100"]


def test_findings_are_worked_out_where_no_file_has_them(study, tmp_path):
    folder = tmp_path / "results/words"
    shutil.copytree(study, folder)
    (folder / synthetic.MODEL / "statistics/findings.json").unlink()
    report.write_report(folder, {synthetic.MODEL: SELECT}, tmp_path / "r.html", **WRITE)
    page = lxml.html.fromstring((tmp_path / "r.html").read_text())
    items = page.xpath("//ol[@class='findings']/li")
    assert len(items) == 3
    row = load_inputs(folder / synthetic.MODEL, ["correlations"])["correlations"].query("primary").iloc[0]
    answer = page.get_element_by_id("made-up-model-answer").getnext()
    assert f"{row['r_s']:+.2f}".replace("-", "−") in text(answer)


def test_no_model_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no model is selected"):
        report.write_report(tmp_path, {}, tmp_path / "r.html", config={})


def test_prose_escapes_and_keeps_versions_ranges_and_identifiers():
    assert report_page.prose("<b> r_s = -0.5 & layers 3-7") == "&lt;b&gt; r<sub>s</sub> = −0.5 &amp; layers 3-7"
    assert report_page.prose("standard_lora, arXiv 2604.07766") == "standard lora, arXiv 2604.07766"


def test_jobs_of_arms_are_found_by_their_label():
    labels = ["train_arm mid_block seed 1", "evaluate_arm mini_arc base seed 0", "profile_layers rope_output"]
    found = bill.by_arm(pd.DataFrame({"label": labels}))
    assert found[["arm", "seed"]].to_numpy().tolist() == [["mid_block", "1"], ["base", "0"]]


def test_a_claim_tested_in_its_own_setting_gets_a_column_of_its_own(inputs):
    claims = inputs["claims"].copy()
    claims.loc[0, "verdict"] = "reproduced"
    table = question.claims({"claims": claims})
    assert table.head[1:3] == ["here", "in the published setting"]
    assert table.rows[0][1:3] == ["cannot tell", "reproduced"]
    assert table.rows[1][2] == "not tested"
