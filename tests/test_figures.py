"""Figures: each draws from a synthetic study, says the numbers it was given, repeats to the byte, survives gaps."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

import synthetic
from colocate import figures
from colocate.errors import InputError
from colocate.figures.controls import controls_of
from colocate.figures.correlation_matrix import lower_triangle
from colocate.figures.layer_sets import tracks
from colocate.results import LAYOUT, load_inputs

SELECT = {"arm": synthetic.ARMS, "benchmark": list(synthetic.BENCHMARKS), "profile": synthetic.PROFILES}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict:
    study = synthetic.make_study(tmp_path_factory.mktemp("figures"))
    return load_inputs(study / synthetic.MODEL, select=SELECT)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory) -> dict:
    return load_inputs(tmp_path_factory.mktemp("empty"))


def texts(figure, path) -> list[str]:
    """All text elements of the figure as SVG; fails if the file is not well-formed XML."""
    figures.save(figure, path)
    root = ElementTree.parse(path).getroot()
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figure_needs_only_what_it_says_and_repeats_to_the_byte(name, inputs, tmp_path):
    given = {need: inputs[need] for need in figures.FIGURES[name].needs}
    written = []
    for attempt in ("a.svg", "b.svg"):
        figures.save(figures.draw(name, given), tmp_path / attempt)
        written.append((tmp_path / attempt).read_bytes())
    assert written[0] == written[1]
    assert b"<text" in written[0]
    assert b'width="675pt"' in written[0]  # 900 CSS pixels
    assert b"dc:date" not in written[0]


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figure_gives_the_numbers_it_shows(name, inputs):
    table = figures.table(name, inputs)
    assert len(table) > 0 or name == "layer_gain"  # the made-up study has measured no gain
    assert not table.duplicated().any()


def test_a_small_study_says_so_on_every_figure(inputs, tmp_path):
    note = figures.note("a-model", {"n_params": 1.35e8}, figures.mini({"mini_arc": "builtin"}))
    assert (
        note == "Small study: a-model, 135 M parameters, one model; all benchmarks are mini ones, not comparable "
        "with published scores."
    )
    large, half = {"n_params": 8e9}, figures.mini({"arc": "somewhere", "mini_arc": "builtin"})
    assert figures.note("a-model", large, figures.mini({"arc": "somewhere"})) == ""
    assert "; 1 mini benchmark, not" in figures.note("a-model", large, half)
    coarse = {"n_params": 1.35e8, "quantisation": "Q4_1, Q8_0", "dtype": "bfloat16"}
    assert "135 M parameters (weights that were quantised to Q4_1, Q8_0), one model" in figures.note("m", coarse, half)
    large |= {"dtype": "nf4"}
    assert "8 G parameters (weights loaded in 4 bits (nf4)), one model" in figures.note("m", large, half)
    for name in figures.FIGURES:
        assert note in texts(figures.draw(name, inputs, note), tmp_path / "x.svg"), name


def test_a_long_note_stays_within_the_figure(inputs):
    note = figures.note("a-model-with-a-long-name-of-its-own", synthetic.GEOMETRY, "all benchmarks are mini ones")
    figure = figures.draw("profiles", inputs, note)
    figure.draw_without_rendering()
    lines = [text.get_window_extent() for text in figure.texts if text.get_text() and text.get_text() in note]
    assert len(lines) == 2
    assert all(line.x0 >= 0 and line.x1 <= figure.bbox.x1 and line.y0 >= 0 for line in lines)
    assert all(line.y1 <= axis.get_tightbbox().y0 for line in lines for axis in figure.axes)


def test_arms_keep_their_colours_whatever_else_a_study_has():
    from colocate.figures import style

    assert len({style.arm_colour(arm) for arm in synthetic.ARMS}) == len(synthetic.ARMS)
    assert len({style.arm_marker(arm) for arm in synthetic.ARMS}) == len(synthetic.ARMS)
    assert style.arm_colour("colocated") == style.BLUE
    assert style.arm_colour("one_of_mine") == style.arm_colour("one_of_mine") in style.SERIES


def test_heat_map_colours_the_change_from_base(inputs):
    table = figures.table("heatmap", inputs).set_index(["arm", "benchmark"])
    accuracy = inputs["evaluations"].groupby(["arm", "benchmark"])["accuracy"].mean() * 100
    row = table.loc[("random", "mini_arc")]
    assert row["accuracy"] == pytest.approx(accuracy[("random", "mini_arc")])
    assert row["change"] == pytest.approx(accuracy[("random", "mini_arc")] - accuracy[("base", "mini_arc")])
    assert np.isnan(table.loc[("mid_block", "mean of all"), "accuracy"])  # one benchmark was not run
    assert (table.loc["base", "change"].dropna() == 0).all()


def test_smallest_detectable_difference_is_drawn_behind_each_contrast(inputs):
    figure = figures.draw("arms", inputs)
    table = figures.table("arms", inputs).query("outcome == 'accuracy'")
    bars = figure.axes[0].patches
    assert [bar.get_width() / 2 for bar in bars] == pytest.approx((100 * table["mde"]).tolist())
    without = figures.draw("arms", inputs | {"power": pd.DataFrame()})
    assert not without.axes[0].patches


def test_pdf_repeats_to_the_byte(inputs, tmp_path):
    for attempt in ("a.pdf", "b.pdf"):
        figures.save(figures.draw("layer_sets", inputs), tmp_path / attempt)
    content = (tmp_path / "a.pdf").read_bytes()
    assert content == (tmp_path / "b.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figure_says_so_when_there_is_nothing_to_draw(name, nothing, tmp_path):
    said = " ".join(texts(figures.draw(name, nothing), tmp_path / "x.svg"))
    assert re.search(r"\b(No|Fewer|not|no)\b", said)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_needs_are_kinds_of_results_and_text_is_complete(name):
    entry = figures.FIGURES[name]
    assert set(entry.needs) <= set(LAYOUT)
    assert entry.module == f"colocate.figures.{name}"
    assert entry.title
    assert entry.caption.endswith(".")


def test_unknown_figure_missing_input_and_wrong_suffix_are_named(inputs, tmp_path):
    with pytest.raises(InputError, match="'profile' is unknown; allowed: profiles"):
        figures.draw("profile", inputs)
    with pytest.raises(InputError, match="'alphas' needs the results geometry"):
        figures.draw("alphas", {"alphas": inputs["alphas"]})
    with pytest.raises(InputError, match="svg or .pdf"):
        figures.save(figures.draw("alphas", inputs), tmp_path / "x.png")


def test_profiles_figure_marks_the_primary_pair_and_shades_its_sets(inputs, tmp_path):
    figure = figures.draw("profiles", inputs)
    said = texts(figure, tmp_path / "x.svg")
    assert {"sensitivity all (primary)", "rope output (primary)", "rope local"} <= set(said)
    assert "S: chosen by sensitivity all" in said
    shaded = [patch.get_x() + 0.5 for patch in figure.axes[0].patches]
    assert sorted(shaded) == sorted([*synthetic.LATE, *synthetic.EARLY])
    heights = {patch.get_x() + 0.5: patch.get_height() for patch in figure.axes[0].patches}
    assert heights[20] == 0.5  # in both sets: half each
    assert heights[0] == heights[27] == 1


def test_a_layer_without_a_value_is_a_gap_with_a_mark_and_never_zero(inputs):
    table = inputs["profiles"]["rope_output"].copy()
    table.loc[3, ["value", "ci_low", "ci_high"]] = np.nan
    figure = figures.draw("profiles", inputs | {"profiles": {"rope_output": table}})
    lines = figure.axes[0].get_lines()
    assert np.isnan(lines[0].get_ydata()[3])
    assert [line.get_xdata()[0] for line in lines if line.get_linestyle() == ":"] == [3]


def test_correlation_figure_prints_the_statistics_it_was_given(inputs, tmp_path):
    row = inputs["correlations"].query("primary").iloc[0]
    figure = figures.draw("correlation", inputs)
    said = " ".join(texts(figure, tmp_path / "x.svg"))
    assert f"{abs(row['r_s']):.2f}" in said
    assert f"{abs(row['partial_r_s']):.2f}" in said
    ranks = figure.axes[0].collections[0].get_offsets()
    assert np.corrcoef(ranks.T)[0, 1] == pytest.approx(row["r_s"])  # Spearman is Pearson of the ranks
    residuals = figure.axes[1].collections[0].get_offsets().T
    assert np.corrcoef(residuals[0], np.arange(synthetic.L))[0, 1] == pytest.approx(0, abs=1e-9)


def test_correlation_matrix_agrees_with_pandas(inputs):
    profiles = {name: table.set_index("layer")["value"] for name, table in inputs["profiles"].items()}
    expected = pd.DataFrame(profiles).corr(method="spearman").to_numpy()
    found = lower_triangle(profiles)
    below = np.tril_indices(len(profiles), -1)
    np.testing.assert_allclose(found[below], expected[below])
    assert np.isnan(found[np.triu_indices(len(profiles))]).all()


def test_controls_are_those_with_the_profiles_own_pooling(inputs):
    table = inputs["variants"]["sensitivity_all"]
    other = table.assign(variant=table["variant"].str.replace("/all/", "/unit/"), value=table["value"] * 2)
    both = pd.concat([other, table], ignore_index=True)
    found = controls_of(inputs["profiles"]["sensitivity_all"], both)
    assert found["wrong_wrong"] == "wrong_wrong/all/state"
    assert list(found) == ["task", "wrong_wrong", "paraphrase", "swap"]


def test_rightness_is_the_ratio_to_the_distance_of_two_wrong_answers(inputs):
    figure = figures.draw("controls", inputs)
    table = inputs["variants"]["sensitivity_all"].set_index("variant")
    values = {
        name: table.loc[f"{name}/all/state"].pivot(index="item", columns="layer", values="value")
        for name in ("task", "wrong_wrong")
    }
    expected = np.exp(np.log(values["task"] / values["wrong_wrong"]).mean())
    line = figure.axes[1].get_lines()[1]
    np.testing.assert_allclose(line.get_ydata(), expected)


def test_arms_figure_draws_each_contrast_where_its_numbers_are(inputs):
    figure = figures.draw("arms", inputs)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["composite accuracy", "held-out loss"]
    rows = inputs["contrasts"].query("arm_a == 'colocated' and outcome == 'accuracy' and benchmark == 'composite'")
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() in "ov^sDP*X"]
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx(100 * rows["difference"].to_numpy())
    filled = [dot.get_markerfacecolor() == dot.get_color() for dot in dots]
    assert filled == (rows["family"] == "primary").tolist()


def test_benchmarks_figure_says_what_was_not_run(inputs, tmp_path):
    figure = figures.draw("benchmarks", inputs)
    said = texts(figure, tmp_path / "x.svg")
    assert said.count("not run: no sandbox") == 1
    assert "mini humaneval, n = 20" in said


def test_alphas_axis_has_round_ticks_and_the_points_their_logarithms(inputs):
    figure = figures.draw("alphas", inputs)
    axis = figure.axes[0]
    np.testing.assert_allclose(
        axis.get_yticks(), np.log([float(text.get_text()) for text in axis.get_yticklabels()]), atol=1e-3
    )
    drawn = np.sort(np.concatenate([points.get_offsets()[:, 1] for points in axis.collections]))
    expected = np.sort(np.log(inputs["alphas"].query("arm == 'colocated'")["alpha"]))
    np.testing.assert_allclose(drawn, expected)


def test_training_figure_thins_long_runs(inputs):
    steps = np.arange(5000)
    log = pd.DataFrame({"arm": "a", "seed": 0, "step": steps, "split": "train", "loss": 1.0, "tokens": steps})
    figure = figures.draw("training", {"training_logs": log})
    assert len(figure.axes[0].get_lines()[0].get_xdata()) <= 201


def test_tracks_join_seeds_with_the_same_layers_only(inputs):
    found = {row["label"]: row for row in tracks(inputs)}
    assert found["colocated"]["seeds"] == [0, 1]
    assert {"random, seed 0", "random, seed 1"} <= set(found)
    assert "base" not in found


def test_every_kind_of_arm_has_a_track(inputs, tmp_path):
    none = {f"{part}_layers": [] for part in ("lora", "garfa", "temperature")}
    arms = [
        none | {"arm": "full_sft", "seed": 0, "full": True, "n_trainable": 135},
        none | {"arm": "temperature_sensitive", "seed": 0, "temperature_layers": [1, 4], "n_trainable": 6},
        *(arm for arm in inputs["arms"] if arm["arm"] in ("base", "colocated")),
    ]
    used = {"arms": arms, "geometry": inputs["geometry"]}
    found = {row["label"]: row for row in tracks(used)}
    assert list(found) == ["full sft", "temperature sensitive", "colocated"]
    assert found["full sft"]["full"] == tuple(range(synthetic.L))
    shown = texts(figures.draw("layer_sets", used), tmp_path / "x.svg")
    assert {"LoRA", "learned RoPE scale (GARFA)", "learned temperature", "all weights", "full sft"} <= set(shown)
    table = figures.table("layer_sets", used)
    assert table.groupby("adapter").size()[["full", "temperature"]].tolist() == [synthetic.L, 2]
    plain = texts(figures.draw("layer_sets", inputs), tmp_path / "x.svg")
    assert not {"learned temperature", "all weights"} & set(plain)


def test_every_colour_of_a_figure_can_follow_the_readers_theme():
    from colocate.figures import style

    theme = {style.INK, style.MUTED, style.GRID, style.PAPER, *style.SERIES[:6]}
    assert len(theme) == 10
    assert not theme & {style.ON_LIGHT, style.ON_DARK}
