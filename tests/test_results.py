"""Reading a study's files: what belongs to it is found, in its order; what does not stays out."""

import json

import pytest

import synthetic
from colocate import results
from colocate.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.make_study(tmp_path_factory.mktemp("results")) / synthetic.MODEL


def test_every_kind_is_read(folder):
    found = results.load_inputs(folder)
    assert set(found) == set(results.LAYOUT)
    assert found["geometry"]["n_layers"] == 30
    assert len(found["evaluations"]) == (1 + 7 * 2) * 6
    assert list(found["evaluations"].columns[:4]) == ["arm", "seed", "benchmark", "accuracy"]
    assert set(found["variants"]) == {"sensitivity_all", "rope_output"}


def test_a_run_record_is_not_taken_for_an_evaluation(folder):
    assert (folder / "evaluations/base/seed0/mini_arc.run.json").exists()
    found = results.load_inputs(folder, ["evaluations"])["evaluations"]
    assert set(found["benchmark"]) == set(synthetic.BENCHMARKS)


def test_selection_leaves_files_of_an_earlier_study_out_and_gives_the_order(folder):
    select = {
        "arm": ["mid_block", "base"],
        "benchmark": ["mini_math", "mini_arc"],
        "profile": ["rope_local"],
        "seed": [0],
    }
    found = results.load_inputs(folder, select=select)
    assert list(found["profiles"]) == ["rope_local"]
    rows = found["evaluations"][["arm", "seed", "benchmark"]].to_numpy().tolist()
    assert rows == [
        ["mid_block", 0, "mini_math"],
        ["mid_block", 0, "mini_arc"],
        ["base", 0, "mini_math"],
        ["base", 0, "mini_arc"],
    ]
    assert [(arm["arm"], arm["seed"]) for arm in found["arms"]] == [("mid_block", 0), ("base", 0)]


def test_seeds_are_ordered_as_numbers(tmp_path):
    for seed in (10, 9):
        path = tmp_path / f"arms/a/seed{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"seed": seed}))
    assert [wildcards["seed"] for wildcards, _ in results.find(tmp_path, "arms")] == ["9", "10"]


def test_an_arm_without_scales_does_not_change_the_numbers_type(folder):
    alphas = results.load_inputs(folder, ["alphas"])["alphas"]
    assert "standard_lora" not in set(alphas["arm"])
    assert alphas["alpha"].dtype == float
    assert alphas["layer"].dtype.kind == "i"


def test_absent_results_are_empty_and_an_absent_folder_is_an_error(tmp_path):
    found = results.load_inputs(tmp_path)
    assert found["geometry"] == {}
    assert found["findings"] == []
    assert found["contrasts"].empty
    assert list(found["alphas"].columns) == ["arm", "seed", "layer", "kv_head", "alpha"]
    with pytest.raises(InputError, match="nowhere: no such folder"):
        results.load_inputs(tmp_path / "nowhere")


def test_a_broken_table_is_named(tmp_path):
    (tmp_path / "statistics").mkdir()
    (tmp_path / "statistics/contrasts.csv").write_text("")
    with pytest.raises(InputError, match=r"contrasts\.csv: not a CSV table"):
        results.load_inputs(tmp_path, ["contrasts"])


def test_sets_of_the_primary_pair(folder):
    found = results.load_inputs(folder)
    assert results.primary_pair(found["correlations"]) == ("sensitivity_all", "rope_output")
    sets = results.chosen_sets(found["layer_sets"], found["correlations"])
    assert sets == {"S": synthetic.LATE, "R": synthetic.EARLY}


def test_reference_contrasts_are_the_primary_arms_own(folder):
    name, outcomes = results.reference_contrasts(results.load_inputs(folder)["contrasts"])
    assert name == "colocated"
    assert list(outcomes) == ["accuracy", "heldout_loss"]
    assert set(outcomes["accuracy"]["benchmark"]) == {"composite"}


def test_accuracies_are_means_over_seeds_with_open_intervals(folder):
    evaluations = results.load_inputs(folder)["evaluations"]
    table = results.accuracies(evaluations).set_index(["arm", "benchmark"])
    own = evaluations.query("arm == 'random' and benchmark == 'mini_mgsm'")["accuracy"].astype(float)
    assert table.loc[("random", "mini_mgsm"), "accuracy"] == pytest.approx(own.mean())
    done = table.dropna(subset="accuracy")
    assert (done["ci_high"] > done["ci_low"]).all()  # at accuracy 0 too
    missing = table.loc[("mid_block", "mini_humaneval")]
    assert missing["status"] == "not run: no sandbox"
    assert missing[["accuracy", "ci_low", "ci_high"]].isna().all()


def test_an_accuracy_is_near_chance_where_that_of_every_seed_is():
    import pandas as pd

    def one(benchmark, seed, near, accuracy=0.3):
        about = {"arm": "a", "benchmark": benchmark, "seed": seed, "accuracy": accuracy, "near_chance": near}
        return about | {"n": 64, "groups": 64, "stderr": 0.05, "status": "ok"}

    rows = [one("all", 0, True), one("all", 1, True), one("some", 0, True), one("some", 1, False)]
    rows += [one("none", 0, None, None), one("partly", 0, True), one("partly", 1, None, None)]
    table = results.accuracies(pd.DataFrame(rows)).set_index("benchmark")
    assert table["near_chance"].to_dict() == {"all": True, "some": False, "none": False, "partly": True}
    table = results.accuracies(pd.DataFrame(rows).drop(columns="near_chance"))
    assert not table["near_chance"].any()


def test_clustered_items_count_as_fewer():
    import pandas as pd

    about = {"arm": "a", "seed": 0, "n": 64, "groups": 16, "status": "ok"}
    plain = (0.25 * 0.75 / 64) ** 0.5
    rows = [about | {"benchmark": "single", "accuracy": 0.25, "stderr": plain}]
    rows += [about | {"benchmark": "clustered", "accuracy": 0.25, "stderr": 2 * plain}]
    rows += [about | {"benchmark": "none_right", "accuracy": 0.0, "stderr": 0.0}]
    table = results.accuracies(pd.DataFrame(rows)).set_index("benchmark")
    bounds = {name: tuple(row) for name, row in table[["ci_low", "ci_high"]].astype(float).iterrows()}
    assert bounds["single"] == pytest.approx(results.wilson(0.25, 64))
    assert bounds["clustered"] == pytest.approx(results.wilson(0.25, 16))  # twice the error: a quarter of the items
    assert bounds["none_right"] == pytest.approx(results.wilson(0.0, 16))


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 64), (64, 64), (110, 164)])
def test_wilson_interval_is_that_of_scipy(hits, n):
    from scipy.stats import binomtest

    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert results.wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_tables_of_several_runs_are_joined(folder):
    import pandas as pd

    paths = sorted(folder.glob("adapters/*/seed*/alphas.csv"))
    table = results.by_run(paths, pd.read_csv)
    assert set(table["arm"]) == {arm for arm in synthetic.ARMS if synthetic.LAYERS[arm][1] != []}
    assert table["alpha"].dtype == float
