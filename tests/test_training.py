"""Training: losses against Hugging Face's own, packing, two learning rates, gradients, resume, guards, FLOPs."""

import json
import math
import os
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from colocate import adapters, checkpoints, models, training, training_data
from colocate.budget import AdapterSpec, count_parameters
from colocate.errors import InputError
from colocate.geometry import read_geometry
from colocate.training_data import Settings, plan_steps
from tiny import make_tokenizer

TARGETS = ("q_proj", "v_proj", "down_proj")
SETTINGS = {"max_tokens": 3000, "epochs": 2, "tokens_per_step": 300, "max_length": 256, "checkpoint_every": 2}
FILES = ["adapter_config.json", "adapter_model.safetensors", "alphas.csv", "heldout.parquet", "training_log.csv"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """24 / 6 / 5 short rows of different lengths: a byte-level tokenizer spends a token on each character."""
    folder = tmp_path_factory.mktemp("mixture")
    paths = {}
    for split, n in {"train": 24, "validate": 6, "test": 5}.items():
        rows = []
        for i in range(n):
            question, answer = f"{split[0]}{i} + {i * i}?", f"It is {i + i * i}" + "!" * (i % 4)
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            rows.append({"id": f"{split}-{i}", "group": f"{split}-{i // 2}", "messages": turns})
        paths[split] = folder / f"{split}.jsonl"
        paths[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def arm(folder, lora=(2, 3), garfa=(1, 3), rank=4, dropout=0.0, **changes):
    geometry = read_geometry(folder)
    spec = AdapterSpec(lora, garfa, rank, 2 * rank, TARGETS)
    n = count_parameters(geometry["linear_shapes"], geometry["n_kv_heads"], spec)
    entry = {"arm": "toy", "seed": 0, "lora_layers": list(lora), "garfa_layers": list(garfa), "rank": rank}
    entry |= {"alpha": 2 * rank, "targets": list(TARGETS), "dropout": dropout, "lr_lora": 5e-3, "lr_garfa": 1e-2}
    return entry | {"n_trainable": n, "budget_deviation": 0} | changes


def run(folder, mixture, tmp_path, name="run", resolved=None, seed=0, progress=None, **settings):
    out, scratch = tmp_path / name, tmp_path / f"{name}-scratch"
    out.mkdir()
    scratch.mkdir(exist_ok=True)
    options = {"seed": seed, "dtype": "float32", "device": "cpu", "out": out, "scratch": scratch}
    if progress:
        options["progress"] = progress
    record = training.train(folder, resolved or arm(folder), mixture, SETTINGS | settings, **options)
    return out, record


@pytest.fixture(scope="module")
def trained(tiny_llama, mixture, tmp_path_factory):
    return run(tiny_llama, mixture, tmp_path_factory.mktemp("trained"))


def reference_losses(model, path):
    """Mean answer loss of each row by Hugging Face's own shifted loss, one unpacked example at a time."""
    tokenizer, losses = make_tokenizer(), {}
    for row in map(json.loads, path.read_text().splitlines()):
        prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, tokenize=False)
        whole = prompt + row["messages"][1]["content"] + "<|im_end|>"
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        labels = ids.clone()
        labels[0, : len(tokenizer(prompt, add_special_tokens=False)["input_ids"])] = -100
        with torch.no_grad():
            losses[row["id"]] = float(model(input_ids=ids, labels=labels).loss)
    return losses


# ---------------------------------------------------------------------------------------------------------- the loss


def test_step_0_is_the_base_model_and_the_end_is_the_saved_adapter(tiny_llama, mixture, trained):
    out, record = trained
    heldout = pd.read_parquet(out / "heldout.parquet")
    base = models.load_model(tiny_llama, "float32", "cpu")
    for step, model in ((0, base), (record["steps"], None)):
        model = model or adapters.load(models.load_model(tiny_llama, "float32", "cpu"), out)
        for split in ("validate", "test"):
            expected = reference_losses(model, mixture[split])
            found = heldout[(heldout["step"] == step) & (heldout["split"] == split)].set_index("item")["loss"]
            assert dict(found) == pytest.approx(expected, abs=2e-5)
    assert sorted(heldout["step"].unique()) == [0, record["steps"]]
    assert heldout["group"].str.startswith(("validate-", "test-")).all()


def test_packed_losses_equal_unpacked_ones(tiny_llama, mixture, trained, tmp_path):
    """Examples in a row do not see each other: the same losses and, since a step sees the same examples, adapters."""
    out, record = run(tiny_llama, mixture, tmp_path, packing=False)
    packed, unpacked = (pd.read_parquet(folder / "heldout.parquet") for folder in (trained[0], out))
    assert packed["item"].tolist() == unpacked["item"].tolist()
    np.testing.assert_allclose(packed["loss"], unpacked["loss"], atol=2e-4)
    first, second = (pd.read_csv(folder / "training_log.csv") for folder in (trained[0], out))
    np.testing.assert_allclose(first["loss"], second["loss"], atol=2e-4)
    assert (first["tokens"] == second["tokens"]).all()
    assert {**record, "training_seconds": 0, "peak_memory_mib": 0} == {
        **trained[1], "training_seconds": 0, "peak_memory_mib": 0}  # fmt: skip


def test_a_4_bit_model_trains_after_its_held_out_loss_was_measured(tiny_llama, mixture, tmp_path):
    """On CPUs with avx512_bf16 a forward in eval mode takes bitsandbytes' gradients away."""
    pytest.importorskip("bitsandbytes")
    (tmp_path / "out").mkdir()
    options = {"seed": 0, "dtype": "nf4", "device": "cpu", "out": tmp_path / "out", "scratch": tmp_path}
    training.train(tiny_llama, arm(tiny_llama, dropout=0.5), mixture, SETTINGS, **options)
    loss = pd.read_csv(tmp_path / "out" / "training_log.csv").query("split == 'validate'")["loss"]
    assert loss.iloc[-1] < loss.iloc[0] - 0.2


def test_capped_logits_are_the_family_s_own(tmp_path, mixture):
    """Gemma 2 caps its logits after the head: projecting a few positions must not lose that."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Gemma2Config(
        vocab_size=len(make_tokenizer()), num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5, **sizes
    )
    model = Gemma2ForCausalLM(config)
    model.save_pretrained(tmp_path / "gemma")
    make_tokenizer().save_pretrained(tmp_path / "gemma")
    out, _ = run(tmp_path / "gemma", mixture, tmp_path, resolved=arm(tmp_path / "gemma", (1,), (0,)), max_tokens=400)
    heldout = pd.read_parquet(out / "heldout.parquet").query("split == 'test' and step == 0").set_index("item")["loss"]
    assert dict(heldout) == pytest.approx(reference_losses(model.eval(), mixture["test"]), abs=2e-5)


def test_training_learns_and_moves_the_alphas(trained):
    out, record = trained
    log, alphas = pd.read_csv(out / "training_log.csv"), pd.read_csv(out / "alphas.csv")
    validate = log[log["split"] == "validate"].set_index("step")["loss"]
    assert validate[record["steps"]] < validate[0] - 0.2
    assert sorted(zip(alphas["layer"], alphas["kv_head"], strict=True)) == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert (np.abs(np.log(alphas["alpha"])) > 1e-3).all()


def test_the_log_has_every_step_and_validate_after_every_epoch(tiny_llama, trained):
    out, record = trained
    log = pd.read_csv(out / "training_log.csv")
    assert list(log.columns) == ["step", "epoch", "split", "loss", "lr_lora", "lr_garfa", "grad_norm", "tokens"]
    assert log.loc[log["split"] == "train", "step"].tolist() == list(range(1, record["steps"] + 1))
    validate = log[log["split"] == "validate"]
    assert validate["epoch"].tolist()[0] == 0
    assert validate["epoch"].astype(int).tolist() == [0, 1, int(log["epoch"].max())]
    assert log.loc[log["split"] == "test", "step"].tolist() == [0, record["steps"]]
    assert log["tokens"].max() == record["tokens"] <= SETTINGS["max_tokens"]
    shares = [Settings.of(SETTINGS).rate(step, record["steps"]) for step in range(1, record["steps"] + 1)]
    rows = log[log["split"] == "train"]
    np.testing.assert_allclose(rows["lr_lora"], 5e-3 * np.array(shares))
    np.testing.assert_allclose(rows["lr_garfa"], 1e-2 * np.array(shares))


# ----------------------------------------------------------------------------------------------------- the optimizer


def test_each_group_has_its_own_rate_and_log_alpha_no_decay(tiny_llama, mixture, tmp_path):
    """Adam's first step is the learning rate times the gradient's sign; decay shrinks LoRA's A, whose gradient is 0."""
    resolved = arm(tiny_llama)
    settings = {"max_tokens": 200, "schedule": "constant", "warmup": 0.0, "weight_decay": 10.0, "clip": 1e9}
    out, record = run(tiny_llama, mixture, tmp_path, resolved=resolved, **settings)
    assert record["steps"] == 1
    np.testing.assert_allclose(np.abs(np.log(pd.read_csv(out / "alphas.csv")["alpha"])), 1e-2, rtol=2e-2)
    torch.manual_seed(0)
    start = adapters.adapt(models.load_model(tiny_llama, "float32", "cpu"), AdapterSpec((2, 3), (1, 3), 4, 8, TARGETS))
    end = adapters.load(models.load_model(tiny_llama, "float32", "cpu"), out)
    before, after = dict(start.named_parameters()), dict(end.named_parameters())
    for name in (name for name in before if "lora_" in name):
        expected = before[name].abs() * (1 - 5e-3 * 10) if "lora_A" in name else torch.full_like(before[name], 5e-3)
        torch.testing.assert_close(after[name].abs(), expected, rtol=1e-2, atol=1e-6, msg=name)


def test_garfa_alone_is_trained_and_not_decayed(tiny_llama, mixture, tmp_path):
    resolved = arm(tiny_llama, lora=(), garfa=(0, 2))
    runs = [run(tiny_llama, mixture, tmp_path, str(i), resolved, weight_decay=i * 10.0)[0] for i in range(2)]
    assert read(runs[0]) == read(runs[1])
    log = pd.read_csv(runs[0] / "training_log.csv")
    assert log["lr_lora"].isna().all()
    assert log.query("split == 'train'")["lr_garfa"].notna().all()


@pytest.mark.parametrize(("lora", "garfa", "first"), [((2,), (3,), 2), ((3,), (1,), 1), ((0, 3), (), 0)])
def test_nothing_below_the_first_adapted_layer_is_backpropagated(tiny_llama, mixture, lora, garfa, first):
    settings = Settings.of(SETTINGS)
    spec = AdapterSpec(lora, garfa, 4, 8, TARGETS)
    model, data, _ = training._load(tiny_llama, spec, mixture, settings, 0, "float32", "cpu")
    needs = []
    for layer in models.decoder_layers(model):
        layer.register_forward_hook(lambda module, args, output: needs.append(output.requires_grad))
    one = training.Run(data, [], settings, {}, "cpu")
    training._accumulate(model, one, data["train"][:1])
    assert needs == [layer >= first for layer in range(4)]
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_accumulation_does_not_depend_on_the_rows(tiny_llama, mixture):
    """The step's loss is a mean over its labels, not a mean of the means of its rows."""
    gradients = []
    for max_length in (128, 4096):
        settings = Settings.of(SETTINGS | {"max_length": max_length})
        spec = AdapterSpec((1,), (2,), 4, 8, TARGETS)
        model, data, _ = training._load(tiny_llama, spec, mixture, settings, 0, "float32", "cpu")
        training._accumulate(model, training.Run(data, [], settings, {}, "cpu"), data["train"][:10])
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-6)


# ------------------------------------------------------------------------------------------ determinism and resume


def read(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_seed_decides_everything(tiny_llama, mixture, trained, tmp_path):
    again, _ = run(tiny_llama, mixture, tmp_path, "again")
    other, _ = run(tiny_llama, mixture, tmp_path, "other", seed=1)
    assert read(again) == read(trained[0])
    assert (other / "adapter_model.safetensors").read_bytes() != (again / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("killed_after", [3, 4, 5])
def test_a_killed_run_goes_on_bit_equal(tiny_llama, mixture, tmp_path, killed_after):
    """SIGKILL between two checkpoints, on one and after one; dropout draws random numbers in every step."""
    resolved = arm(tiny_llama, dropout=0.3)
    whole, record = run(tiny_llama, mixture, tmp_path, "whole", resolved)
    child = os.fork()
    if child == 0:
        steps = iter(range(1, 1000))
        run(
            tiny_llama, mixture, tmp_path, "killed", resolved,
            progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL) if next(steps) == killed_after else None,
        )  # fmt: skip
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert list((tmp_path / "killed").iterdir()) == []
    assert [path.name for path in (tmp_path / "killed-scratch").iterdir()] == [checkpoints.NAME]
    (tmp_path / "killed").rmdir()
    done = []
    resumed, _ = run(tiny_llama, mixture, tmp_path, "killed", resolved, progress=lambda *_: done.append(1))
    assert len(done) == record["steps"] - killed_after // 2 * 2
    assert read(resumed) == read(whole)


def test_a_checkpoint_of_another_run_is_refused(tiny_llama, mixture, tmp_path):
    run(tiny_llama, mixture, tmp_path, "a", max_tokens=400)
    (tmp_path / "a").rename(tmp_path / "first")
    with pytest.raises(InputError, match=r"checkpoint.pt: belongs to another arm, seed or settings"):
        run(tiny_llama, mixture, tmp_path, "a", max_tokens=400, seed=1)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer, path = torch.optim.AdamW([parameter]), tmp_path / checkpoints.NAME
    checkpoints.keep(path, "key", {"w": parameter}, optimizer, 3, [], [])
    before = path.read_bytes()

    def fail(state, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.keep(path, "key", {"w": parameter}, optimizer, 4, [], [])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [checkpoints.NAME]


# ------------------------------------------------------------------------------------------------------------ guards


def test_numbers_that_are_none_stop_the_run_with_step_examples_and_rates(tiny_llama, mixture, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_llama, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = math.nan
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    says = r"diverged in step 1 of 7: loss nan .*lr_lora 0.005, lr_garfa 0.01, examples train-\d+, train-\d+"
    with pytest.raises(training.TrainingError, match=says):
        run(broken, mixture, tmp_path)


@pytest.mark.parametrize(("base", "loss", "stops"), [(1.0, 3.2, 0), (1.0, 3.4, 1), (5.0, 7.4, 0), (5.0, 7.6, 1)])
def test_a_loss_half_way_to_a_uniform_guess_stops_the_run(tiny_llama, base, loss, stops):
    """With 259 tokens a uniform guess costs 5.56 nat: half-way from 1 is 3.28; half more than 5 is 7.5."""
    model = models.load_model(tiny_llama, "float32", "cpu")
    history = [{"loss": base}, {"loss": loss, "step": 4, "grad_norm": 1.0, "lr_lora": 0.1}]
    if stops:
        with pytest.raises(training.TrainingError, match="diverged in step 4 of 9"):
            training._check_progress(model, history, [], 9)
    else:
        training._check_progress(model, history, [], 9)


def test_a_tensor_without_gradient_is_named():
    trained = {"layer.lora_A": torch.nn.Parameter(torch.ones(2)), "layer.lora_B": torch.nn.Parameter(torch.ones(2))}
    trained["layer.lora_A"].grad = torch.zeros(2)
    with pytest.raises(training.TrainingError, match=r"layer.lora_B has no gradient"):
        training._check_gradients(trained)
    trained["layer.lora_B"].grad = torch.zeros(2)
    with pytest.raises(training.TrainingError, match=r"layer.lora_B has a gradient of zeros"):
        training._check_gradients(trained)
    trained["layer.lora_B"].grad = torch.ones(2)
    training._check_gradients(trained)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_says_what_to_lower(error):
    with pytest.raises(training.TrainingError, match="lower training.max_length"), training._memory_hint(Settings()):
        raise error
    with pytest.raises(RuntimeError, match="something else"), training._memory_hint(Settings()):
        raise RuntimeError("something else")


def test_an_arm_of_another_model_is_refused(tiny_llama, mixture, tmp_path):
    with pytest.raises(InputError, match="arm toy: n_trainable is 7, this model has"):
        run(tiny_llama, mixture, tmp_path, resolved=arm(tiny_llama, n_trainable=7))


def test_examples_that_are_too_long_are_left_out_and_counted(tiny_llama, mixture, tmp_path):
    lengths = [len(e.ids) for e in training_data.read_examples(mixture["train"], make_tokenizer(), Settings())[0]]
    limit = sorted(lengths)[12]
    _, record = run(tiny_llama, mixture, tmp_path, max_length=limit, max_tokens=400)
    assert record["left_out"]["train"] == sum(length > limit for length in lengths) > 0
    with pytest.raises(InputError, match="all 24 examples are longer than training.max_length 20"):
        run(tiny_llama, mixture, tmp_path, "short", max_length=20)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_tokens": 0}, "training.max_tokens: found 0, allowed: whole numbers from 1"),
        ({"epochs": 1.5}, "training.epochs: found 1.5"),
        ({"schedule": "step"}, "training.schedule: found 'step', allowed: cosine, linear, constant"),
        ({"warmup": 2}, "training.warmup: found 2, allowed: 0 to 1"),
        ({"clip": float("nan")}, "training.clip: found nan"),
        ({"lr": 1}, "training.lr: unknown key, allowed: chat_template, check"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(InputError, match=says):
        Settings.of(settings)


# --------------------------------------------------------------------------------------------------- plan and FLOPs


def test_the_plan_is_a_permutation_per_epoch_within_its_budget():
    lengths = np.random.default_rng(0).integers(5, 60, 50).tolist()
    settings = Settings(max_tokens=10**6, epochs=3, tokens_per_step=200)
    steps = plan_steps(lengths, settings, seed=4)
    order = [index for step in steps for index in step.examples]
    epochs = [order[i : i + 50] for i in (0, 50, 100)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    sizes = [sum(lengths[i] for i in step.examples) for step in steps]
    assert max(sizes) <= 200
    assert np.cumsum(sizes).tolist() == [step.tokens for step in steps]
    assert steps[-1].epoch == 3
    assert plan_steps(lengths, settings, seed=4) == steps != plan_steps(lengths, settings, seed=5)

    cut = plan_steps(lengths, Settings(max_tokens=1000, epochs=3, tokens_per_step=200), seed=4)
    assert 1000 - 60 < cut[-1].tokens <= 1000
    assert [i for step in cut for i in step.examples] == order[: sum(len(step.examples) for step in cut)]
    with pytest.raises(InputError, match="training.max_tokens: found 4, less than one example"):
        plan_steps(lengths, Settings(max_tokens=4), seed=0)


def test_learning_rates_warm_up_and_follow_their_schedule():
    cosine = [Settings(warmup=0.2).rate(step, 10) for step in range(1, 11)]
    np.testing.assert_allclose(cosine[:3], [0.5, 1, 1])
    np.testing.assert_allclose(cosine[2:], [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)])
    linear = [Settings(warmup=0, schedule="linear").rate(step, 4) for step in range(1, 5)]
    np.testing.assert_allclose(linear, [1, 0.75, 0.5, 0.25])
    assert {Settings(warmup=0, schedule="constant").rate(step, 4) for step in range(1, 5)} == {1.0}


@pytest.mark.parametrize(("lora", "garfa"), [((2, 3), (3,)), ((0,), ()), ((3,), (1,))])
def test_flops_agree_with_torch_s_counter(tiny_llama, mixture, lora, garfa):
    """Matrix products as torch counts them, plus the gradient of the first adapted layer's input."""
    from torch.utils.flop_counter import FlopCounterMode

    settings, spec = Settings.of(SETTINGS), AdapterSpec(lora, garfa, 4, 8, TARGETS)
    model, data, _ = training._load(tiny_llama, spec, mixture, settings, 0, "float32", "cpu")
    example = data["train"][0]
    with FlopCounterMode(display=False) as counter:
        training._accumulate(model, training.Run(data, [], settings, {}, "cpu"), [example])
    counts = counter.get_flop_counts()["Global"]
    counted = counts.get(torch.ops.aten.mm, 0) + counts.get(torch.ops.aten.addmm, 0)
    geometry, n_tokens = read_geometry(tiny_llama), len(example.ids)
    formula = training_data.training_flops(geometry | {"n_heads": 0}, spec, [n_tokens], example.n_labels)
    first = min(lora + garfa)
    shapes = geometry["linear_shapes"][str(first)]
    spare = sum(math.prod(shapes[name]) for name in ("q_proj", "k_proj", "v_proj"))
    spare += sum(spec.rank * shapes[name][1] for name in ("q_proj", "v_proj") if first in lora)
    assert formula == counted + 2 * n_tokens * spare
    attention = training_data.training_flops(geometry, spec, [n_tokens], example.n_labels) - formula
    width, pairs = geometry["n_heads"] * geometry["head_dim"], n_tokens * (n_tokens + 1) // 2
    assert attention == pairs * width * (4 * 4 + 8 * (4 - first))


# -------------------------------------------------------------------------------------------------------- layer gain


def test_layer_gain_is_that_of_an_arm_with_this_layer_alone(tiny_llama, mixture, tmp_path):
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": list(TARGETS)}
    settings = SETTINGS | {"lora": lora, "lr_lora": 5e-3}
    gain = training.layer_gain(tiny_llama, 1, mixture, settings, 3, "float32", "cpu")
    out, _ = run(tiny_llama, mixture, tmp_path, resolved=arm(tiny_llama, (1,), ()), seed=3)
    log = pd.read_csv(out / "training_log.csv").query("split == 'validate'")["loss"]
    assert gain["loss_base"] == pytest.approx(log.iloc[0])
    assert gain["loss"] == pytest.approx(log.iloc[-1])
    assert gain["gain"] == gain["loss_base"] - gain["loss"] > 0
    assert (gain["layer"], gain["seed"], gain["n"]) == (1, 3, 6)
    assert pd.read_csv(out / "alphas.csv").empty


@pytest.mark.slow
@pytest.mark.smollm2
def test_the_real_model_learns(smollm2, tmp_path):
    from colocate.instructions import build_mixture

    build_mixture([{"kind": "builtin"}], 0, tmp_path / "mixture")
    paths = {split: tmp_path / "mixture" / f"{split}.jsonl" for split in ("train", "validate", "test")}
    resolved = arm(smollm2, tuple(range(30)), (29,), rank=16, lr_lora=1e-3)
    out, _ = tmp_path / "out", (tmp_path / "out").mkdir()
    options = {"seed": 0, "dtype": models.resolve_dtype("auto", "cpu", "float32"), "device": "cpu"}
    settings = {"max_tokens": 6000, "heldout_examples": 20}
    training.train(smollm2, resolved, paths, settings, **options, out=out, scratch=tmp_path)
    loss = pd.read_csv(out / "training_log.csv").query("split == 'validate'")["loss"]
    assert loss.iloc[-1] < loss.iloc[0] - 0.1, loss.tolist()
