"""What a job has to do, from the config alone; the file of rates that turns it into seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from colocate import config as configuration
from colocate import rates, work
from colocate.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def study() -> dict:
    return configuration.complete(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def model(study) -> dict:
    return study["models"]["smollm2-135m"]


def one(rule: str, study: dict, model: dict, **job) -> work.Work:
    (found,) = work.of_job(rule, study, model, job)
    return found


def test_short_trainings_take_their_own_tokens_and_one_held_out_split(study, model):
    study["training"] |= {"heldout_examples": 0, "max_tokens": 24000}
    study["training"]["tuning"]["max_tokens"], study["gain"]["max_tokens"] = 8000, 6000
    before = {rule: one(rule, study, model).passes for rule in ("train_arm", "tune_arm", "gain_layer")}
    assert before["train_arm"] == 3 * before["tune_arm"] == 4 * before["gain_layer"] == work.BACKWARD * 24000
    study["training"]["heldout_examples"] = 10
    more = {rule: one(rule, study, model).passes - before[rule] for rule in before}
    assert more["train_arm"] == 2 * more["tune_arm"] == 2 * more["gain_layer"] > 0


def test_twins_cost_the_two_primary_profiles(study, model):
    both = [work.profile(study, study["profiles"][name], 30) for name in ("sensitivity_all", "rope_output")]
    assert work.of_job("profile_twin", study, model) == both
    assert one("profile_twin", study, model, profile="rope_output") == both[1]


def test_made_pairs_are_written_where_the_model_answers(study, model):
    study["pairs"]["made"] = [{"kind": "benchmark", "benchmark": "mini_arc", "n": 200}]
    assert one("make_pairs", study, model).written == 0
    study["pairs"]["made"].append({"kind": "own_answers", "benchmark": "mini_math", "n": 50})
    assert one("make_pairs", study, model).written == 50 * work.ANSWER_TOKENS


def test_profiles_of_examples_pay_for_a_backward_pass_and_patching_for_every_layer(study):
    def passes(**entry) -> float:
        return work.profile(study, entry, 30).passes

    assert passes(metric="gradient_norm", max_examples=10) == 10 * work.EXAMPLE_TOKENS * work.BACKWARD
    assert passes(metric="patching") == pytest.approx(work.SUFFIX * 30 * passes(metric="probe"))
    assert work.profile(study, {"metric": "rope_influence"}, 30).exact


def test_written_tokens_cost_more_than_read_ones():
    assert work.Work(tokens=10, passes=6, written=4).all_passes(5) == 26


def test_evaluations_count_rows_limits_and_subsets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/benchmarks/mini_x"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("{}\n{}\n\n{}\n")
    (folder / "validation.jsonl").write_text("{}\n")
    assert work.items_of({"task": "mini_x"}) == 3
    assert work.items_of({"task": "mini_x", "limit": 2}) == 2
    assert work.items_of({"task": "mmlu"}) == 14042
    assert work.items_of({"task": "mmlu", "limit": 4}) == 228  # of each of 57 subjects
    assert work.items_of({"task": "mgsm_direct", "subset": ["de", "th"], "limit": 20}) == 40
    assert work.items_of({"task": "path/to/own.yaml", "limit": 7}) == 7


def test_shorter_answers_are_less_work():
    task = {"task": "gsm8k", "limit": 10}
    assert work.evaluation(task | {"max_new_tokens": 30}).written == 300 < work.evaluation(task).written


def test_pairs_count_rows_up_to_the_limit(study):
    files = [str(ROOT / name) for name in study["pairs"]["files"]]
    rows = sum(Path(file).read_text(encoding="utf-8").count("\n") for file in files)
    assert work.pairs_of({"pairs": {"files": files, "limit": 10**6}}) == rows
    assert work.pairs_of({"pairs": {"files": files, "limit": 5}}) == 5 * len(files)


# ---- rates


def test_the_shipped_rates_say_what_was_measured(study):
    found = rates.read(study)
    assert found.machines["cpu"].measured
    assert not found.machines["cuda"].measured
    assert found.machines["cpu"].passes["bfloat16"] < found.machines["cpu"].passes["float32"]


def test_another_file_of_rates_counts_instead(study, tmp_path):
    values = yaml.safe_load(rates.SHIPPED.read_text())
    values["cpu"]["start"] = 123
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    assert rates.read(study | {"rates": str(path)}).machines["cpu"].start == 123


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.pop("cuda"), "cuda: found None, expected dict"),
        (lambda v: v["cpu"]["pass"].pop("nf4"), "cpu.pass.nf4: found None, expected a number above 0"),
        (lambda v: v["cpu"].update(start=0), "cpu.start: found 0, expected a number above 0"),
        (lambda v: v["watts"].update(cpu="many"), "watts.cpu: found 'many'"),
    ],
)
def test_wrong_rates_are_named(study, tmp_path, change, said):
    values = yaml.safe_load(rates.SHIPPED.read_text())
    change(values)
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="wrong.yaml: " + said.split("(")[0]):
        rates.read(study | {"rates": str(path)})


def test_a_missing_file_of_rates_is_named(study):
    with pytest.raises(InputError, match="rates: nowhere.yaml"):
        rates.read(study | {"rates": "nowhere.yaml"})


def test_what_the_snakefile_imports_is_light():
    code = (
        "import sys, colocate.needs, colocate.spending; heavy = {'torch', 'pandas', 'numpy', 'scipy', 'transformers'}"
    )
    code += "; print(*heavy & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_a_comparison_of_weights_reads_no_text(study, model):
    assert one("profile_arm", study, model, metric="weight_change").passes == 0
    assert one("profile_arm", study, model, metric="linear_cka").passes > 0
    assert len(work.of_job("profile_arm", study, model)) == len(study["select"]["arm_profiles"]) == 2
