"""The table of arms, seeds and stages: cells, what is collapsed, reasons in plain words, and a wide study's length."""

from types import SimpleNamespace

import pytest

from colocate import progress_table
from colocate.progress_table import FOLLOWS, NEW, Planned, table

CONFIG = {"select": {"models": ["tiny"], "arms": ["base", "colocated", "random"]}}


def job(rule: str, arm: str, seed: int, why: str = "", model: str = "tiny", **more) -> Planned:
    return Planned(rule, {"model": model, "arm": arm, "seed": str(seed)} | more, why)


def study(arms, seeds, why=lambda arm, seed: "", model: str = "tiny") -> list[Planned]:
    jobs = [job("evaluate_arm", "base", 0, model=model, benchmark=name) for name in ("a", "b")]
    for arm in arms:
        for seed in seeds:
            said = why(arm, seed)
            jobs += [job(rule, arm, seed, said, model) for rule in ("resolve_arm", "train_arm")]
            jobs += [job("evaluate_arm", arm, seed, said, model, benchmark=name) for name in ("a", "b")]
    return jobs


def test_what_is_done_and_what_will_run():
    shown = table(study(["colocated", "random"], [0, 1], lambda arm, seed: NEW if seed else ""), CONFIG)
    assert shown.splitlines() == [
        "                   seed 0                    seed 1",
        "arm                resolve  train  evaluate  resolve  train  evaluate",
        "base               -        -      done      -        -      -",
        "colocated, random  done     done   done      run      run    2 run",
        "why:",
        "  new: jobs 8",
    ]


def test_a_cell_that_is_done_in_part():
    jobs = [job("evaluate_arm", "base", 0, NEW), job("evaluate_arm", "base", 0), job("evaluate_arm", "base", 0)]
    assert "base  run, 2 done" in table(jobs, CONFIG)


def test_seeds_that_say_the_same_share_columns():
    shown = table(study(["colocated"], range(5)), CONFIG)
    assert "seeds 0-4" in shown
    assert shown.endswith("Nothing to run: all is done.")


def test_other_stages_and_reasons_are_counted():
    jobs = [Planned("draw_figure", {"figure": name}, "code changed") for name in "ab"]
    jobs += [Planned("profile_layers", {"profile": "a"}), Planned("write_report", {}, FOLLOWS)]
    shown = table(jobs, CONFIG).splitlines()
    assert shown == [
        "besides: draw_figure 2, write_report 1; 1 done",
        "why:",
        "  code changed: draw_figure 2",
        f"  {FOLLOWS}: jobs 1",
    ]


def test_models_that_say_the_same_share_a_block():
    jobs = study(["colocated"], [0]) + study(["colocated"], [0], model="second")
    shown = table(jobs, CONFIG)
    assert shown.startswith("tiny, second:\n")
    assert shown.count("colocated") == 1


def test_a_wide_study_stays_readable():
    arms = [f"arm{number}" for number in range(60)]
    jobs = []
    for model in map(str, range(9)):
        jobs += study(arms, range(20), lambda arm, seed: f"setting changed: {hash((arm, seed)) % 97}", model)
    lines = table(jobs, CONFIG).splitlines()
    assert len(lines) <= 45
    assert any("more reasons" in line for line in lines)


def reason(**said) -> SimpleNamespace:
    nothing = SimpleNamespace(only_old=set(), only_new=set())
    sets = ("missing_output", "incomplete_output", "updated_input", "updated_input_run")
    flags = dict.fromkeys(("forced", "code_changed", "input_changed"), False)
    changes = said.pop("params", None)
    changed = nothing if changes is None else SimpleNamespace(only_old=changes[0], only_new=changes[1])
    values = dict.fromkeys(sets, frozenset()) | flags | {"params_changed": changes and changed} | said
    return SimpleNamespace(**values)


OLD = repr('{"training": {"clip": 1.0, "lora": {"rank": 16}}, "seed": 0}')
CLIP = repr('{"training": {"clip": 2.0, "lora": {"rank": 8}}, "seed": 0}')


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (reason(forced=True), "asked for"),
        (reason(incomplete_output={"a"}), "was interrupted"),
        (reason(missing_output={"x/there.csv", "x/adapter.bin"}), NEW),
        (reason(params=({OLD}, {CLIP})), "setting changed: training.clip, training.lora.rank"),
        (reason(params=({repr("a" * 64)}, {repr("b" * 64)})), "code changed"),
        (
            reason(params=({repr("python==3.11 torch==2.1")}, {repr("python==3.11 torch==2.2")})),
            "package changed: torch",
        ),
        (reason(code_changed=True), "command changed"),
        (reason(updated_input={"data/pairs.jsonl"}), "input changed: data/pairs.jsonl"),
        (reason(updated_input_run={"a"}), FOLLOWS),
        (reason(input_changed=True), "other inputs"),
    ],
)
def test_reasons_in_plain_words(given, said):
    assert progress_table.words(given, SimpleNamespace(output=["x/there.csv", "x/adapter.bin"])) == said


def test_one_missing_file_is_named(tmp_path):
    there, gone = tmp_path / "there.csv", tmp_path / "adapter.bin"
    there.touch()
    found = progress_table.words(reason(missing_output={str(gone)}), SimpleNamespace(output=[str(there), str(gone)]))
    assert found == "missing output: adapter.bin"
