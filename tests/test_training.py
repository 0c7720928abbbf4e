"""Training: losses against Hugging Face's own, two learning rates, which tensors get a gradient."""

import numpy as np
import pandas as pd
import pytest
import torch

from colocate import adapters, fitting, models, training
from colocate.budget import AdapterSpec
from colocate.training_data import Settings
from tiny import make_tokenizer
from toy_training import SETTINGS, TARGETS, arm, gradients, load, read, reference_losses, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tiny_llama, mixture, tmp_path_factory):
    return run(tiny_llama, mixture, tmp_path_factory.mktemp("trained"))


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


@pytest.mark.four_bit
@pytest.mark.parametrize("prefix_cache_gib", [0, 1])
def test_a_4_bit_model_trains_after_its_held_out_loss_was_measured(tiny_llama, mixture, tmp_path, prefix_cache_gib):
    """On CPUs with avx512_bf16 a forward in eval mode takes bitsandbytes' gradients away."""
    (tmp_path / "out").mkdir()
    options = {"seed": 0, "dtype": "nf4", "device": "cpu", "out": tmp_path / "out", "scratch": tmp_path}
    settings = SETTINGS | {"prefix_cache_gib": prefix_cache_gib}
    training.train(tiny_llama, arm(tiny_llama, dropout=0.5), mixture, settings, **options)
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
    model, one = load(tiny_llama, mixture, AdapterSpec(lora, garfa, 4, 8, TARGETS))
    needs = []
    for layer in models.decoder_layers(model):
        layer.register_forward_hook(lambda module, args, output: needs.append(output.requires_grad))
    fitting.accumulate(model, one, one.data["train"][:1])
    assert needs == [layer >= first for layer in range(4)]
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_accumulation_does_not_depend_on_the_rows(tiny_llama, mixture):
    """The step's loss is a mean over its labels, not a mean of the means of its rows."""
    found = []
    for max_length in (128, 4096):
        model, one = load(tiny_llama, mixture, AdapterSpec((1,), (2,), 4, 8, TARGETS), max_length=max_length)
        fitting.accumulate(model, one, one.data["train"][:10])
        found.append(gradients(model))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.smollm2
def test_the_real_model_learns(smollm2, tmp_path):
    from colocate.mixtures import build_mixture

    build_mixture([{"kind": "builtin"}], 0, tmp_path / "mixture")
    paths = {split: tmp_path / "mixture" / f"{split}.jsonl" for split in ("train", "validate", "test")}
    resolved = arm(smollm2, tuple(range(30)), (29,), rank=16, lr_lora=1e-3)
    out, _ = tmp_path / "out", (tmp_path / "out").mkdir()
    options = {"seed": 0, "dtype": models.resolve_dtype("auto", "cpu", "float32"), "device": "cpu"}
    settings = {"max_tokens": 6000, "heldout_examples": 20}
    training.train(smollm2, resolved, paths, settings, **options, out=out, scratch=tmp_path)
    loss = pd.read_csv(out / "training_log.csv").query("split == 'validate'")["loss"]
    assert loss.iloc[-1] < loss.iloc[0] - 0.1, loss.tolist()
