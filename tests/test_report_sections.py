"""What the report says of results that are null, reversed, missing, of one seed, of one model, or not numbers."""

import base64
import hashlib
import json
import math
import re
from urllib.parse import unquote

import lxml.html
import numpy as np
import pandas as pd
import pytest

import synthetic
from colocate import figures, report
from colocate.files import write_json
from colocate.report import bill, charts, gains, learned, method, page, question, scripts
from colocate.results import load_inputs
from colocate.statistics.claims import read_claims
from colocate.statistics.findings import findings

SELECT = {"arm": synthetic.ARMS, "benchmark": list(synthetic.BENCHMARKS), "profile": synthetic.PROFILES}
CONFIG = {"study": "synthetic", "seeds": [0, 1], "select": {"models": [synthetic.MODEL]}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return synthetic.make_study(tmp_path_factory.mktemp("sections"))


@pytest.fixture(scope="module")
def inputs(study) -> dict:
    return load_inputs(study / synthetic.MODEL, select=SELECT)


def primary(inputs: dict, **values) -> pd.DataFrame:
    table = inputs["correlations"].copy()
    for column, value in values.items():
        table.loc[table["primary"], column] = value
    return table


def said(inputs: dict, **changed) -> tuple[str, str]:
    """The answer, and the finding on the arms."""
    used = {name: changed.get(name, inputs[name]) for name in ("correlations", "contrasts", "claims", "recommendation")}
    found = question.findings(used | {"findings": []})
    return found["answer"], dict(found["findings"])["The arms"]


def test_a_rope_base_for_each_kind_of_attention_layer(inputs):
    """As in Gemma 3: one base in layers with full attention, another in those with a sliding window."""
    theta = {"full_attention": 1_000_000, "sliding_attention": 10_000}
    geometry = inputs["geometry"] | {"rope_theta": theta, "rope_type": {"full_attention": "linear"}}
    found = question.facts(inputs | {"geometry": geometry}, {})
    assert found["theta"] == "1,000,000 in full attention, 10,000 in sliding attention"
    assert found["rope_type"] == "linear in full attention"
    assert question.facts(inputs, {})["theta"] == "100,000"


def contrasts(inputs: dict, difference: float, p: float, seeds: int = 2) -> pd.DataFrame:
    table = inputs["contrasts"].copy()
    own = table["family"] == "primary"
    changed = {"difference": difference, "ci_low": difference - 0.02, "ci_high": difference + 0.02, "p_adjusted": p}
    for column, value in (changed | {"n_seeds": seeds}).items():
        table.loc[own, column] = value
    return table


def test_a_null_result_is_called_inconclusive(inputs):
    answer, arms = said(inputs, correlations=primary(inputs, p_depth=0.6, p_raw=0.7), contrasts=contrasts(inputs, 0, 1))
    assert answer.startswith("Inconclusive: two unrelated profiles")
    assert arms.startswith("Inconclusive: colocated is neither better nor worse")


@pytest.mark.parametrize(("partial", "way"), [(-0.6, "have less"), (0.6, "also have more")])
def test_the_answer_follows_the_sign(inputs, partial, way):
    answer, _ = said(inputs, correlations=primary(inputs, p_depth=0.001, partial_r_s=partial))
    assert f"layers that are more sensitive {way} RoPE influence" in answer


def test_accuracies_that_guessing_would_reach_are_marked_where_they_are_read(inputs):
    evaluations = inputs["evaluations"].assign(near_chance=False)
    evaluations.loc[(evaluations["arm"] == "base") & (evaluations["benchmark"] == "mini_arc"), "near_chance"] = True
    table = gains.benchmarks(inputs | {"evaluations": evaluations})
    marked = {(row[0], cell) for row in table.rows for cell in row if "\u2248\u00a0chance" in cell}
    ((arm, cell),) = marked
    assert arm == "base"
    assert re.fullmatch(r"[\d.]+ \([\d.]+–[\d.]+\) \u2248\u00a0chance", cell)
    assert "\u2248\u00a0chance: no more than guessing" in table.caption


@pytest.mark.parametrize(("difference", "word"), [(0.08, "better"), (-0.08, "worse")])
def test_the_arms_follow_the_sign(inputs, difference, word):
    _, arms = said(inputs, contrasts=contrasts(inputs, difference, 0.01))
    other = {"better": "worse", "worse": "better"}[word]
    assert f"colocated is {word} than" in arms
    assert f"{other} than" not in arms


def test_what_is_not_a_number_is_called_not_tested(inputs):
    nan = float("nan")
    table = primary(inputs, p_depth=nan, p_raw=nan, r_s=nan, partial_r_s=nan, r_dis=nan)
    answer, arms = said(inputs, correlations=table, contrasts=contrasts(inputs, nan, nan))
    assert answer.startswith("Not tested")
    assert arms.startswith("Not tested")
    assert "nan" not in answer + arms
    assert "chance" not in answer + arms


def test_one_contrast_without_a_p_value_is_left_out_by_name(inputs):
    table = contrasts(inputs, 0.08, 0.01)
    table.loc[(table["family"] == "primary") & (table["arm_b"] == "random"), ["p_adjusted", "difference"]] = np.nan
    _, arms = said(inputs, contrasts=table)
    assert arms.endswith("Not tested: random.")
    assert "nan" not in arms
    assert "better than random" not in arms


def test_one_seed_speaks_of_these_checkpoints(inputs):
    _, arms = said(inputs, contrasts=contrasts(inputs, 0.08, 0.01, seeds=1))
    assert "1 seed, so this speaks of these checkpoints only" in arms


def test_nothing_is_claimed_of_nothing():
    empty = pd.DataFrame()
    answer, arms, advice = findings(empty, empty, empty, {})
    assert "has not been correlated" in answer
    assert "was not compared" in arms
    assert advice == "Nothing was recommended."


def test_a_point_has_a_price_only_where_a_gain_is_shown(inputs):
    table = inputs["contrasts"].copy()
    own = (table["arm_b"] == "base") & (table["benchmark"] == "composite") & (table["outcome"] == "accuracy")
    table.loc[own, ["difference", "ci_low", "ci_high"]] = [0.03, -0.01, 0.07]
    table.loc[own & (table["arm_a"] == "random"), ["difference", "ci_low", "ci_high"]] = [0.02, 0.01, 0.04]
    table.loc[own & (table["arm_a"] == "mid_block"), ["difference", "ci_low", "ci_high"]] = [-0.05, -0.09, -0.01]
    table.loc[own & (table["arm_a"] == "positional_both"), ["difference", "ci_low", "ci_high"]] = np.nan
    compute = synthetic.compute().assign(cost=4.0)
    price = {row[0]: row[-1] for row in bill.per_point(inputs | {"contrasts": table}, compute).rows}
    assert price["colocated"] == price["mid block"] == "no gain shown"
    assert price["random"] == "2.00 USD (1.00 USD to 4.00 USD)"
    assert price["positional both"] == "–"


def test_landmarks_that_are_not_there_are_named(inputs):
    assert gains.unseen(inputs) == ""
    table = inputs["evaluations"].query("arm not in ('standard_lora', 'random')")
    words = gains.unseen(inputs | {"evaluations": table})
    assert words == "Not evaluated in this study: standard LoRA on all layers, a random placement."


def test_change_from_base_and_its_absence(inputs):
    first, *others = gains.forgetting(inputs)
    assert first.head[-1] == "neutral text (nat per token)"
    assert first.rows[0][-1] == "+0.020 (+0.015 to +0.025)"
    outcomes = list(dict.fromkeys(inputs["forgetting"]["outcome"]))
    assert len(others) == len(set(outcomes) - {"accuracy", "kl"})
    assert all("of the gold answer" in table.caption for table in others)
    assert gains.forgetting(inputs | {"forgetting": pd.DataFrame()}) == []


def test_powers_of_ten_are_raised():
    assert page.prose("7.19 × 10^−6 (6 × 10^-6)") == "7.19 × 10<sup>−6</sup> (6 × 10<sup>−6</sup>)"


def test_changes_by_depth_are_means_of_their_part(inputs):
    table = learned.changes(inputs)
    rows = {row[0]: row for row in table.rows}
    own = inputs["arm_profiles"].query("arm == 'colocated' and metric == 'linear_cka'").groupby("layer")["value"].mean()
    assert rows["linear cka: colocated"][1] == f"{own[own.index < 6].mean():.3f}"
    assert len(rows) == 14
    assert learned.changes(inputs | {"arm_profiles": pd.DataFrame()}).rows == []


def test_settings_that_differ_are_listed_with_both_values():
    here = {"seeds": [0, 1], "training": {"lr": 1e-3, "epochs": 2}, "new": {"a": True}}
    default = {"seeds": [0], "training": {"lr": 1e-3, "epochs": 1}}
    rows = {row[0]: row[1:] for row in method.changed(here, default).rows}
    assert rows == {"seeds": ["[0, 1]", "[0]"], "training.epochs": ["2", "1"], "new.a": ["true", "–"]}
    assert method.changed(here, here).rows == []


def test_forecast_beside_the_bill():
    row = {"rule": "train_arm", "stage": "train", "jobs": 4, "forecast_seconds": 100.0, "seconds": 150.0}
    table = bill.forecast(pd.DataFrame([row | {"joules": np.nan, "forecast_cost": 0.1, "cost": 0.15}]))
    assert table.rows == [["train arm", "4", "1.7 min", "2.5 min", "1.50", "0.100", "0.150", "–", "–", "–"]]
    on_cards = row | {"joules": 3e6, "forecast_cost": 0.1, "cost": 0.15, "utilisation": 0.83, "gpu_seconds": 120.0}
    assert bill.forecast(pd.DataFrame([on_cards])).rows[0][-3:] == ["83 %", "2.0 min", "3 MJ"]
    assert bill.forecast(pd.DataFrame()).rows == []


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1,302,552", 1302552),
        ("−1.2 (−8.1 to 3.0)", -1.2),
        ("+3.6 points", 3.6),
        ("1.5 h", 5400),
        ("2.0 min", 120),
        ("40 s", 40),
        ("19.4 TFLOP", 19.4e12),
        ("1200 MiB", 1200),
        ("2.5 × 10^−5", 2.5e-5),
        ("< 0.001", 0.001),
    ],
)
def test_columns_of_numbers_sort_by_their_size(cell, number):
    assert float(page.order(cell)) == pytest.approx(number)


def test_words_among_numbers_sort_apart():
    assert page.order("–") == page.order("not run") == ""


def rows_of(chart: str) -> list[dict]:
    return next(iter(json.loads(chart)["datasets"].values()))


def test_charts_hold_the_numbers_of_their_figures_and_no_address(inputs):
    for name in charts.CHARTS.keys() & figures.FIGURES.keys():
        table = figures.table(name, inputs)
        text = charts.specification(name, table)
        assert text == charts.specification(name, table)  # no name from a counter
        assert "http" not in text
        assert "NaN" not in text
        json.loads(text)
    values = rows_of(charts.specification("alphas", figures.table("alphas", inputs)))
    assert sorted(row["alpha"] for row in values) == sorted(inputs["alphas"]["alpha"])


def test_a_chart_cannot_end_its_script(inputs):
    table = inputs["alphas"].assign(arm="</script><script>alert(1)")
    assert "<" not in charts.specification("alphas", table)
    assert charts.specification("alphas", table.iloc[:0]) is None
    assert charts.specification("heatmap", table) is None


def test_values_that_are_no_numbers_are_gaps_of_a_chart(inputs):
    table = figures.table("profiles", inputs)
    table.loc[3, ["value", "ci_low", "ci_high"]] = [math.nan, -math.inf, math.inf]
    spec = json.loads(charts.specification("profiles", table))
    values = (
        next(iter(spec.get("datasets", {}).values()), None) or spec["layer"][0].get("data", spec.get("data"))["values"]
    )
    assert values[3]["value"] is values[3]["ci_low"] is None


@pytest.fixture(scope="module")
def html(study, inputs):
    synthetic.draw_figures(study / synthetic.MODEL, inputs)
    out = study.parents[1] / "reports/page.html"
    report.write_report(study, {synthetic.MODEL: SELECT}, out, config=CONFIG, default=CONFIG)
    return out.read_text(encoding="utf-8")


def test_the_policy_names_the_pages_own_scripts_and_nothing_else(html):
    tree = lxml.html.fromstring(html)
    allowed = set(re.findall(r"'sha256-([^']+)'", scripts.policy()))
    texts = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts} == allowed
    assert len(allowed) == 4
    policy = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy == scripts.policy()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_a_page_stays_small_enough_to_send(html):
    assert len(html.encode()) < 6e6


def test_every_figure_can_be_saved_in_three_forms(html, study):
    tree = lxml.html.fromstring(html)
    for name in figures.FIGURES:
        links = tree.xpath(f"//figure[@id='made-up-model-figure-{name}']//span[@class='files']/a")
        if name == "layer_gain":
            assert not links  # nothing to show, so nothing to save
            continue
        for link, kind in zip(links, ("svg", "pdf", "csv"), strict=True):
            written = (study / synthetic.MODEL / f"figures/{name}.{kind}").read_bytes()
            encoding, _, content = link.get("href").partition(",")
            if kind == "svg":  # but for its line ends
                assert unquote(content).split() == written.decode("utf-8").split()
            else:
                assert encoding.endswith(";base64")
                assert base64.b64decode(content) == written
            assert link.get("download") == f"made-up-model-{name}.{kind}"


def test_files_of_several_models_are_linked_beside_the_page(study, inputs, tmp_path):
    found = page.figure(study / synthetic.MODEL / "figures", "profiles", "made-up-model", embed=False)
    assert found["files"][2][1] == "../results/synthetic/made-up-model/figures/profiles.csv"


def test_sections_are_in_the_readers_order_and_numbered(html):
    tree = lxml.html.fromstring(html)
    titles = [heading.text_content() for heading in tree.xpath("//h2")]
    assert [title.partition(". ")[0] for title in titles] == [str(n + 1) for n in range(len(titles))]
    keys = [section.xpath("./h2/@id")[0] for section in tree.xpath("//main/section")]
    assert keys[:7] == ["question", "where", "gains", "learned", "advice", "print_alone", "method"]
    topics = set(tree.xpath("//main//h3/@id"))
    assert {link.lstrip("#") for link in tree.xpath("//nav//ul//a/@href")} == topics


def test_full_fine_tunes_and_temperatures_stand_with_the_other_arms(inputs):
    none = {f"{part}_layers": [] for part in ("lora", "garfa", "temperature")}
    rest = {"seed": 0, "lr_garfa": 0.01, "budget_deviation": 0}
    full = none | rest | {"arm": "full_sft", "full": True, "lr_lora": 1e-5, "n_trainable": 135_000_000}
    warm = none | rest | {"arm": "warm", "temperature_layers": [1, 4], "rank": 16, "alpha": 32, "lr_lora": 0.0}
    arms = [full, warm | {"n_trainable": 6}, *inputs["arms"]]
    table = gains.arms(inputs | {"arms": arms})
    found = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert found["full sft"]["LoRA layers"] == "all weights"
    assert (found["full sft"]["#rank"], found["full sft"]["learning rates"]) == ("–", "1e-05")
    assert (found["warm"]["temperature layers"], found["warm"]["#rank"]) == ("1, 4", "–")
    assert found["warm"]["learning rates"] == "temperature 0.01"
    assert found["colocated"]["learning rates"].startswith("LoRA ")
    assert "temperature layers" not in gains.arms(inputs).columns


def test_learned_temperatures_are_shown_beside_the_scales(inputs):
    assert not learned.temperatures(inputs).rows
    rows = [("warm", 0, layer, head, 1 + 0.1 * layer) for layer in (1, 4) for head in range(3)]
    made = pd.DataFrame(rows, columns=["arm", "seed", "layer", "kv_head", "temperature"])
    (row,) = learned.temperatures(inputs | {"temperatures": made}).rows
    assert row == ["warm, seed 0", "6", "1.250", "1.100 to 1.400", "100 %", "layer 4"]


def test_data_cards_name_the_commits_that_were_taken(tmp_path):
    results = tmp_path / "results/s"
    taken = {"source": "hf:org/base@main", "revision": "c0ffee" * 7, "sha256": "a" * 64}
    write_json(results / "m/geometry.json", taken)
    write_json(tmp_path / "resources/models/m-sft/manifest.json", taken | {"source": "hf:org/sft", "revision": None})
    write_json(tmp_path / "resources/datasets/org/set/manifest.json", taken)
    config = {
        "select": {"models": ["m"], "benchmarks": ["arc", "mini_arc", "mmlu"]},
        "models": {"m": {"source": "hf:org/base", "released": ["m-sft"]}, "m-sft": {"source": "hf:org/sft"}},
        "benchmarks": {
            "arc": {"source": "org/set", "task": "arc"},
            "mini_arc": {"source": "builtin", "task": "mini_arc"},
            "mmlu": {"source": "org/elsewhere", "task": "mmlu"},
        },
        "mixture": {"sources": [{"kind": "hub", "dataset": "org/set"}]},
    }
    rows = {row[0]: row[1:] for row in method.data(results, config).rows}
    assert rows["m"] == ["model", "hf:org/base@main, commit c0ffeec0ffee", "–", "aaaaaaaaaaaa…"]
    assert rows["m-sft"][:2] == ["released fine-tune of m", "hf:org/sft"]
    assert rows["org/set"][1] == "hf:org/set, commit c0ffeec0ffee"
    assert rows["org/elsewhere"][1] == "hf:org/elsewhere, out of a mirror or not there"


def test_verdicts_link_to_their_evidence(inputs, study):
    """Each published claim to the topic that shows what it is judged by, of its model or of the whole study."""
    topics = {key: own for section in page.OUTLINE.values() for (key, _), own in section.items()} | {"across": False}
    published = read_claims(synthetic.SPECIFICATION.parent / "claims.csv")
    assert set(question.EVIDENCE) == set(published["evidence"])
    tested = inputs["claims"].iloc[:1].assign(scope="conceptual", verdict="holds_here")
    for evidence, topic in question.EVIDENCE.items():
        table = question.claims(inputs | {"claims": tested.assign(evidence=evidence)}, "a-model")
        assert table.kinds[-1] == "link"
        own = "a-model-" * topics[topic]
        assert table.rows[0][-1] == f"{own}{topic}|{question.LINKS[topic]}"
    table = question.claims(inputs | {"claims": tested.assign(evidence="one_scan")}, "a-model")
    assert table.rows[0][-1] == "a-model-chosen|chosen layers"


def test_without_scripts_every_table_and_figure_is_there(html):
    tree = lxml.html.fromstring(html)
    assert len(tree.xpath("//figure//svg")) == len(figures.FIGURES)
    assert not tree.xpath("//table[not(tbody/tr)]")


def test_a_failed_arm_leaves_the_rest_standing(study, tmp_path):
    import shutil

    folder = tmp_path / "results/failed"
    shutil.copytree(study, folder)
    for kind in ("adapters", "evaluations", "arms", "arm_profiles"):
        shutil.rmtree(folder / synthetic.MODEL / kind / "random")
    for name in ("twins", "contrasts"):
        (folder / synthetic.MODEL / f"statistics/{name}.csv").unlink()
    report.write_report(folder, {synthetic.MODEL: SELECT}, tmp_path / "r.html", config=CONFIG)
    words = lxml.html.fromstring((tmp_path / "r.html").read_text()).text_content()
    for expected in (
        "Not evaluated in this study: a random placement.",
        "No primary contrast has been computed",
        "no point has a price",
        "standard lora",
    ):
        assert expected in words


def test_claims_about_several_models_are_those_judged_over_all(inputs):
    claims = inputs["claims"]
    keys = ["claim", "scope"]
    general = claims.iloc[[2]].assign(verdict="holds_here", why="over six families", measured=0.5)
    found = question.with_general(claims, general)
    assert found[keys].to_numpy().tolist() == claims[keys].to_numpy().tolist()
    assert list(found) == list(claims)
    assert (found.loc[2, "verdict"], found.loc[2, "why"], found.loc[2, "measured"]) == (
        "holds_here",
        "over six families",
        0.5,
    )
    pd.testing.assert_frame_equal(found.drop(index=2), claims.drop(index=2), check_dtype=False)
    assert question.with_general(claims, pd.DataFrame()) is claims


def test_training_alone_and_everything_stand_beside_the_published_cost():
    jobs = {"rule": ["train_arm", "evaluate_arm"], "seconds": [3600.0, 1800.0], "cost": [2.0, 1.0], "currency": "USD"}
    said = bill.totals(pd.DataFrame(jobs))
    assert "Training alone took 1 h of job time and 2.00 USD" in said.replace("1.0 h", "1 h")
    assert "everything took 1.5 h of job time and 3.00 USD" in said
    assert "Rao 2026 reports 100 US dollars" in said
    assert bill.totals(pd.DataFrame()) == ""


def test_a_column_of_sentences_is_given_room():
    table = report.Table("x", ["name", "short", "why", "#n"], [["a", "b", "c" * 81, "1"]])
    assert table.kinds == ["text", "text", "text long", "num"]
