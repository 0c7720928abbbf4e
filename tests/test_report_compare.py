"""Several studies on one page: pooled means are those of the statistics, winners those of the files."""

import re
import shutil

import lxml.html
import numpy as np
import pandas as pd
import pytest

import browser
import synthetic
from axe import violations
from colocate.errors import InputError
from colocate.files import write_csv, write_json
from colocate.report import compare
from colocate.statistics import across

SHIFT = {"llama-1b": 0.0, "llama-8b": 0.1, "qwen-1b": 0.3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Study `a` with two sizes of one family, study `b` with another family; made-up numbers, moved by SHIFT."""
    root = tmp_path_factory.mktemp("compare")
    made = synthetic.make_study(root / "made") / synthetic.MODEL
    for place, (model, shift) in enumerate(SHIFT.items()):
        folder = root / "results" / ("b" if model.startswith("qwen") else "a") / model
        shutil.copytree(made, folder)
        write_json(folder / "geometry.json", synthetic.GEOMETRY | {"n_params": (place + 1) * 10**9})
        correlations = pd.read_csv(folder / "statistics/correlations.csv")
        for column in ("r_dis", "ci_low", "ci_high"):
            correlations[column] = np.clip(correlations[column] + shift, -0.99, 0.99)
        write_csv(folder / "statistics/correlations.csv", correlations)
        contrasts = pd.read_csv(folder / "statistics/contrasts.csv")
        chosen = (contrasts["arm_a"] == "mid_block") & (contrasts["arm_b"] == "base")
        contrasts.loc[chosen & (contrasts["outcome"] == "heldout_loss"), "difference"] = -1.0 if shift else 1.0
        write_csv(folder / "statistics/contrasts.csv", contrasts)
    return root


def page(root, *studies):
    parsed = lxml.html.fromstring(compare.write_comparison(studies, root).read_text(encoding="utf-8"))
    for script in parsed.xpath("//script | //style"):
        script.drop_tree()
    return parsed


def text(parsed) -> str:
    return re.sub(r"\s+", " ", parsed.text_content())


def test_the_pooled_mean_is_that_of_the_statistics(root):
    models = compare.load(["a", "b"], root / "results")
    assert list(models) == list(SHIFT)
    table = across.compare(*({name: one[kind] for name, one in models.items()} for kind in compare.KINDS[:3]))
    pooled = table[table["model"] == "random effects"].iloc[0]
    rows = {row[0]: row[1:] for row in compare.coefficients(table).rows}
    assert list(rows) == [*SHIFT, "random effects"]
    assert rows["random effects"][5].startswith(f"{pooled['r_dis']:+.2f}".replace("-", "−"))
    said = text(page(root, "a", "b"))
    assert f"Random effects: {pooled['r_dis']:+.2f}".replace("-", "−") in said.replace("-", "−")
    assert "2 families (3 models)" in said


def test_one_family_has_no_mean_and_the_page_says_so(root):
    assert "nothing here speaks of models in general" in text(page(root, "a"))


def test_winners_are_those_of_the_contrasts(root):
    models = compare.load(["a", "b"], root / "results")
    table = compare.wins(models, "heldout_loss")
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.head[1:-1] == list(SHIFT)
    assert rows["mid block"][-1] == "2 of 3"
    assert [("best" in cell) for cell in rows["mid block"][:3]] == [False, True, True]
    assert sum("best" in row[1] for row in table.rows) == 1
    accuracy = compare.wins(models, "accuracy")
    assert all(row[-1] in ("3 of 3", "0 of 3") for row in accuracy.rows)


def test_leaderboards_are_sorted_and_made_of_every_model(root):
    models = compare.load(["a", "b"], root / "results")
    table = compare.metrics_by_regret(models)
    means = [float(row[2].replace("−", "-")) for row in table.rows]
    assert means == sorted(means)
    assert all(row[4] == "3" for row in table.rows)
    regret = models["qwen-1b"]["regret"]
    assert means[0] == pytest.approx(regret["regret"].min(), abs=0.006)
    arms = {row[0]: row[1:] for row in compare.arms_by_shortfall(models).rows}
    assert arms["mid block"][2:] == ["3", "2"]
    assert next(iter(arms)) != "base"


def test_a_model_without_parts_is_named(root, tmp_path):
    shutil.copytree(root / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/b/qwen-1b/statistics")
    said = text(page(tmp_path, "a", "b"))
    assert "qwen-1b: its profiles are not correlated, its arms are not compared, no layer gain was measured." in said
    assert "llama-8b" in said


def test_studies_with_nothing_at_all_still_give_a_page(root, tmp_path):
    write_json(tmp_path / "results/c/tiny/geometry.json", synthetic.GEOMETRY)
    said = text(page(tmp_path, "c"))
    for words in ("No arms have been compared.", "so no cheap metric can be scored", "No arm has been compared"):
        assert words in said


def test_the_same_model_in_two_studies_keeps_both(root, tmp_path):
    shutil.copytree(root / "results/b", tmp_path / "results/b")
    shutil.copytree(root / "results/b", tmp_path / "results/c")
    assert list(compare.load(["b", "c"], tmp_path / "results")) == ["qwen-1b (b)", "qwen-1b (c)"]


def test_what_cannot_be_compared_is_named(root, capsys):
    with pytest.raises(InputError, match="no model with results; studies here: a, b"):
        compare.load(["absent"], root / "results")
    with pytest.raises(InputError, match="name the studies"):
        compare.load([], root / "results")
    assert compare.main(["../a"]) == 1
    assert "without slashes" in capsys.readouterr().err


@browser.needs_chromium
@pytest.mark.parametrize("width", browser.WIDTHS)
def test_the_coefficients_can_be_explored(chromium, axe, root, width):
    browser.visit(chromium, compare.write_comparison(["a", "b"], root), browser.WIDTHS[width])
    chromium.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    points = "return document.querySelectorAll('.chart svg .mark-symbol path').length"
    assert browser.wait_for(chromium, points) == len(SHIFT) + 1  # and their mean
    choice = (
        "const s = document.querySelector('.choice select'); s.value = 'qwen'; s.dispatchEvent(new Event('change'))"
    )
    chromium.execute_script(choice)
    assert browser.wait_for(chromium, points.replace("length", "length == 2")) is True
    assert violations(chromium, axe) == []
    assert chromium.get_log("browser") == []
    assert browser.requests(chromium) == []
