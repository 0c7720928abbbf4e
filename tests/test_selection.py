"""What a study runs on a model: own seeds, arms of some models alone, arms that say the same, drawn layer sets."""

from colocate import config_schema, selection

STUDY = {
    "select": {
        "models": ["one", "two"],
        "profiles": ["rope_output"],
        "arms": ["base", "late", "again", "drawn", "loss_only", "elsewhere"],
        "benchmarks": ["mini_arc"],
        "layer_gain": ["block", "alone"],
        "arm_profiles": ["linear_cka"],
    },
    "arms": {
        "base": {},
        "late": {"lora": "last"},
        "again": {"lora": "last"},
        "drawn": {"lora": "some", "seeds": [5]},
        "loss_only": {"lora": "last", "rank": 4, "measure": "heldout"},
        "elsewhere": {"lora": "last", "rank": 8, "models": ["two"]},
    },
    "layer_sets": {"last": {"layers": [3]}, "some": {"random": 2}},
    "seeds": [0, 1],
    "training": config_schema.with_defaults({}, config_schema.load()["properties"]["training"], {}),
}
LATE, LOSS_ONLY = [("late", 0), ("late", 1)], [("loss_only", 0), ("loss_only", 1)]


def test_an_arm_that_says_the_same_runs_once_and_each_model_has_its_own():
    assert selection.arms(STUDY, "one") == ["base", "late", "drawn", "loss_only"]
    assert selection.arms(STUDY, "two") == ["base", "late", "drawn", "loss_only", "elsewhere"]


def test_base_counts_once_and_an_arm_may_have_seeds_of_its_own():
    assert selection.runs(STUDY, "one") == [("base", 0), *LATE, ("drawn", 5), *LOSS_ONLY]
    assert selection.runs(STUDY, "one", trained_only=True) == [*LATE, ("drawn", 5), *LOSS_ONLY]
    assert selection.evaluated(STUDY, "one") == [("base", 0), *LATE, ("drawn", 5)]


def test_drawn_sets_have_no_file():
    assert selection.layer_sets(STUDY, "one") == ["last"]


def test_by_wildcard():
    found = selection.of_model(STUDY, "one")
    assert found["profile"] == ["rope_output", "layer_gain", "layer_gain_block"]
    assert found["run"] == [
        "base/seed0",
        "late/seed0",
        "late/seed1",
        "drawn/seed5",
        "loss_only/seed0",
        "loss_only/seed1",
    ]
    assert (found["benchmark"], found["metric"]) == (["mini_arc"], ["linear_cka"])
