"""Memory and time that jobs ask for: from the geometry, before anything is loaded; refusals that say what would fit."""

import copy
from pathlib import Path

import pytest
import yaml

from colocate import config as configuration
from colocate import fits, needs, plan

ROOT = Path(__file__).resolve().parents[1]
SMOLLM2 = "smollm2-135m"
# Largest resident memory, MiB, least and most over the seeds (and, of evaluations, over base and all arms): run records
# of the default study, SmolLM2-135M-Instruct in bfloat16, one thread a job, on two cores with AVX512-BF16.
MEASURED = [
    ("profile_layers", {"profile": "sensitivity_all"}, 1232, 1232),
    ("profile_layers", {"profile": "sensitivity_skip_first"}, 1232, 1232),
    ("profile_layers", {"profile": "sensitivity_answer"}, 1232, 1232),
    ("profile_layers", {"profile": "rope_output"}, 1738, 1738),  # these two in float32
    ("profile_layers", {"profile": "rope_local"}, 1493, 1493),
    ("train_arm", {"arm": "colocated"}, 2243, 2331),
    ("train_arm", {"arm": "lora_sensitive_garfa_positional"}, 2268, 2337),
    ("train_arm", {"arm": "lora_positional_garfa_sensitive"}, 2267, 2336),
    ("train_arm", {"arm": "positional_both"}, 2312, 2376),
    ("train_arm", {"arm": "random"}, 2290, 2409),
    ("train_arm", {"arm": "standard_lora"}, 2733, 2755),
    ("train_arm", {"arm": "mid_block"}, 2558, 2560),
    ("profile_arm", {"metric": "linear_cka"}, 1209, 1211),
    ("profile_arm", {"metric": "weight_change"}, 1208, 1211),
    ("measure_drift", {}, 1272, 1272),
    ("evaluate_arm", {"benchmark": "mini_mmlu"}, 1265, 1265),
    ("evaluate_arm", {"benchmark": "mini_gpqa"}, 1265, 1265),
    ("evaluate_arm", {"benchmark": "mini_humaneval"}, 1265, 1466),
    ("evaluate_arm", {"benchmark": "mini_math"}, 1265, 1324),
    ("evaluate_arm", {"benchmark": "mini_mgsm"}, 1343, 1552),
    ("evaluate_arm", {"benchmark": "mini_arc"}, 1265, 1265),
]
LLAMA = {"n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "head_dim": 128, "hidden": 4096, "ffn": 14336, "vocab": 128256}
MODEL = {"model": "llama"}


@pytest.fixture
def study(monkeypatch) -> dict:
    """The default study on a model of Llama 3.1 8B's shape, on cards."""
    monkeypatch.chdir(ROOT)
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    values["models"]["llama"] = {"source": "hf:org/llama", "revision": "main", "geometry": LLAMA}
    values["select"]["models"], values["device"] = ["llama"], "cuda"
    return configuration.complete(values)


def card(study: dict, rule: str, **job) -> float:
    return needs.memory(rule, study, MODEL | job).gpu_mib


@pytest.fixture
def default(monkeypatch) -> dict:
    monkeypatch.chdir(ROOT)
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    return configuration.complete(values | {"device": "cpu"})


@pytest.mark.parametrize(("rule", "job", "least", "most"), MEASURED, ids=lambda value: str(value) if value else "")
def test_estimates_are_within_15_percent_of_the_default_studys_peaks(default, rule, job, least, most):
    said = needs.memory(rule, default, {"model": SMOLLM2, "seed": "0"} | job, "bfloat16").host_mib
    assert 0.85 * most <= said <= 1.15 * least


def test_every_kind_of_model_job_of_the_default_study_was_measured(default):
    selected = default["select"]
    expected = {("measure_drift", ""), *(("profile_arm", metric) for metric in selected["arm_profiles"])}
    expected |= {("profile_layers", profile) for profile in selected["profiles"]}
    expected |= {("train_arm", arm) for arm in selected["arms"] if arm != "base"}
    expected |= {("evaluate_arm", benchmark) for benchmark in selected["benchmarks"]}
    assert {(rule, *job.values()) if job else (rule, "") for rule, job, _, _ in MEASURED} == expected


def test_weights_dominate_a_large_model(study):
    weights = 2 * plan.parameters(LLAMA) / 2**20
    full = card(study, "evaluate_arm", benchmark="mini_arc")
    assert weights < full < 1.5 * weights  # the head in float32 beside its own
    study["models"]["llama"]["dtype"] = "nf4"
    body = plan.parameters(LLAMA) - LLAMA["vocab"] * LLAMA["hidden"]  # embedding and head keep two bytes
    saved = (2 - needs.BYTES["nf4"]) * body / 2**20
    assert full - card(study, "evaluate_arm", benchmark="mini_arc") == pytest.approx(saved)


def test_rope_profiles_are_float32_but_for_4_bit_weights(study):
    study["models"]["llama"]["dtype"] = "bfloat16"
    assert card(study, "profile_layers", profile="rope_output") > 4 * plan.parameters(LLAMA) / 2**20
    assert card(study, "profile_layers", profile="sensitivity_all") < 2.5 * plan.parameters(LLAMA) / 2**20
    study["models"]["llama"]["dtype"] = "nf4"
    assert card(study, "profile_layers", profile="rope_output") < 2 * plan.parameters(LLAMA) / 2**20


def test_a_full_fine_tune_trains_every_parameter_and_is_compared_as_a_second_model(study):
    study["arms"]["whole"] = {"full": True, "lr_full": 1e-5}
    assert card(study, "train_arm", arm="whole") > 18 * plan.parameters(LLAMA) / 2**20
    assert card(study, "profile_arm", arm="whole") > 1.85 * card(study, "profile_arm", arm="standard_lora")


def test_a_model_on_two_cards_has_the_room_of_both(study):
    needed = max(card(study, "profile_layers", profile=profile) for profile in study["select"]["profiles"])
    assert fits.refusal(study, 0.8 * needed)
    study["models"]["llama"]["gpus"] = 2
    assert fits.refusal(study, 0.8 * needed) == ""


def test_a_released_fine_tune_is_a_second_model(study):
    assert card(study, "profile_released") > 1.85 * card(study, "profile_arm")


@pytest.mark.parametrize(
    ("rule", "path", "values", "job"),
    [
        ("train_arm", ("training", "max_length"), (128, 512, 2048), {"arm": "standard_lora"}),
        ("train_arm", ("training", "lora", "rank"), (8, 64, 256), {"arm": "standard_lora"}),
        ("evaluate_arm", ("evaluation", "batch_tokens"), (512, 2048, 4000), {"benchmark": "gsm8k"}),
        ("profile_layers", ("profiles", "rope_output", "max_texts"), (2, 4, 8), {"profile": "rope_output"}),
        ("profile_layers", ("profiles", "rope_local", "text_tokens"), (64, 128, 512), {"profile": "rope_local"}),
        ("profile_layers", ("profiles", "probe", "batch_tokens"), (512, 4096, 16384), {"profile": "probe"}),
    ],
)  # fmt: skip
def test_more_tokens_or_parameters_need_more_memory(study, rule, path, values, job):
    sizes = [card(fits.changed_to(study, path, value), rule, **job) for value in values]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_layers_above_the_first_adapted_one_keep_their_activations(study):
    late, early = (card(study, "train_arm", arm=arm) for arm in ("late", "early"))
    assert late < early
    assert needs.adapted("train_arm", study, {"arm": "late"}, 32) == (9, 9)
    assert needs.adapted("train_arm", study, {"arm": "standard_lora"}, 32) == (32, 32)
    assert needs.adapted("train_arm", study, {"arm": "mid_block"}, 32) == (19, 26)  # layers 6 to 24
    assert needs.adapted("train_arm", study, {"arm": "garfa_everywhere"}, 32) == (0, 32)
    assert needs.adapted("train_arm", study, {"arm": "colocated"}, 32) == (9, 32)  # a profile may choose layer 0


def test_lora_keeps_the_inputs_of_its_maps(study):
    study["training"]["max_length"] = 1000
    full = card(study, "train_arm", arm="standard_lora")
    study["arms"]["standard_lora"] |= {"targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    less = full - card(study, "train_arm", arm="standard_lora")
    assert less == pytest.approx(1000 * 32 * 2 * (4096 + 14336) / 2**20)  # inputs of gate and up, and of down
    study["arms"]["standard_lora"] |= {"dropout": 0.1}
    copies = 1000 * 32 * (4 * 3 - 2 * 2) * 4096 / 2**20  # four and their masks instead of two
    assert card(study, "train_arm", arm="standard_lora") == pytest.approx(full - less + copies)


def test_short_trainings_meet_few_lengths_of_rows(default):
    def host(tokens: int) -> float:
        default["training"] |= {"max_tokens": tokens, "prefix_cache_gib": 0}
        return needs.memory("train_arm", default, {"model": SMOLLM2, "arm": "late"}, "bfloat16").host_mib

    assert host(6_000) < host(12_000) - 300
    assert host(1_000_000) - host(100_000) < 100


def test_answers_of_unknown_data_may_be_all_of_a_row(study):
    before = card(study, "train_arm", arm="late")
    study["mixture"]["sources"] = [{"kind": "jsonl", "path": "mine.jsonl"}]
    more = 0.75 * study["training"]["max_length"] * LLAMA["vocab"] * 10 / 2**20
    assert card(study, "train_arm", arm="late") - before == pytest.approx(more)


def test_host_memory_on_cards_is_about_the_file_and_not_the_work(study):
    small, large = (
        needs.memory(
            "train_arm", fits.changed_to(study, ("training", "max_length"), n), MODEL | {"arm": "standard_lora"}
        )
        for n in (128, 2048)
    )
    assert small.host_mib == large.host_mib
    assert small.gpu_mib < large.gpu_mib


def test_a_second_attempt_asks_for_half_as_much_memory_more_and_twice_the_time(study):
    job = MODEL | {"arm": "colocated", "seed": "0"}
    memory = [needs.ask_mib("train_arm", study, job, attempt) for attempt in (1, 2, 3)]
    assert memory[1] == pytest.approx(1.5 * memory[0], abs=1)
    assert memory[2] == pytest.approx(2.25 * memory[0], abs=3)
    minutes = [needs.ask_minutes("train_arm", study, job, attempt) for attempt in (1, 2, 3)]
    assert minutes == [minutes[0], 2 * minutes[0], 4 * minutes[0]]


def test_both_scales_act_on_every_rule(study):
    scaled = copy.deepcopy(study)
    scaled["resources"] |= {"memory_scale": 2.0, "time_scale": 3.0}
    for rule, job in (("train_arm", MODEL | {"arm": "late"}), ("contrast_arms", MODEL), ("prepare_model", MODEL)):
        assert needs.ask_mib(rule, scaled, job) == pytest.approx(2 * needs.ask_mib(rule, study, job), abs=1)
        assert needs.ask_minutes(rule, scaled, job) == pytest.approx(3 * needs.ask_minutes(rule, study, job), abs=2)


def test_time_is_three_times_the_estimate(study):
    study["training"]["max_tokens"] = 100_000_000
    job = MODEL | {"arm": "colocated", "seed": "0"}
    seconds = plan.modelled_seconds("train_arm", study, "cuda", job)
    assert seconds > 3600
    assert needs.ask_minutes("train_arm", study, job) == pytest.approx(3 * seconds / 60, abs=1)


def test_enough_for_snakemake_beside_every_job(study):
    for rule in plan.RULES:
        assert needs.ask_mib(rule, study, MODEL) >= 500


def test_what_fits_is_not_refused(study):
    study["select"]["profiles"] = ["sensitivity_all", "rope_output"]
    assert fits.refusal(study, 80 * 1024) == ""


def test_a_refusal_says_what_is_needed_what_there_is_and_what_would_fit(study):
    study["select"]["profiles"] = ["sensitivity_all"]
    said = fits.refusal(study, 12 * 1024)
    assert "needs 1" in said  # GiB
    assert "the card has 11.3 GiB" in said
    assert "models.llama.dtype: nf4" in said
    tried = fits.changed_to(study, ("models", "llama", "dtype"), "nf4")
    assert "sensitivity_all" not in fits.refusal(tried, 12 * 1024)


def test_float32_profiles_are_refused_with_4_bits_or_a_larger_card_as_the_way_out(study):
    study["select"]["profiles"] = ["rope_output"]
    said = fits.refusal(study, 24 * 1024)
    assert said.startswith("profile_layers of llama rope_output: needs ")
    assert said.endswith("try models.llama.dtype: nf4")
    assert "larger card" in fits.refusal(study, 4 * 1024)
    study["models"]["llama"]["gpus"] = 2
    assert fits.refusal(study, 24 * 1024) == ""


def test_long_rows_are_refused_with_a_length_that_fits(study):
    study["select"]["profiles"] = []
    study["training"]["max_length"] = 8192
    said = fits.refusal(study, 24 * 1024)
    assert "training.max_length: " in said
    length = int(said.rsplit(" ", 1)[1])
    assert fits.refusal(fits.changed_to(study, ("training", "max_length"), length), 24 * 1024) == ""


def test_an_evaluation_makes_its_batch_smaller_by_itself(study):
    study["select"] |= {"profiles": [], "arms": ["base"], "benchmarks": ["gsm8k"]}
    study["evaluation"] |= {"batch_tokens": 200_000, "batch_size": 512}
    assert card(study, "evaluate_arm", benchmark="gsm8k") > 24 * 1024
    assert fits.refusal(study, 24 * 1024) == ""
