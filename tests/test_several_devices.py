"""A model whose layers lie in several places, run by accelerate's hooks: the same numbers as on one device.

Without cards the places are memory and disk: weights of half the layers are loaded for each call and dropped after it,
by the same hooks that move states from card to card. Weights that are not there cannot be trained, so that LoRA and
training are tested with the hooks alone. With two cards, the layers are spread over them.
"""

import pytest
import torch

from colocate import adapters, models, profiles
from colocate.budget import AdapterSpec
from colocate.evaluation.backend import LiveModel
from colocate.fitting import Run, accumulate
from colocate.profiles.capture import recorded, resumed
from colocate.profiles.data import read_data
from colocate.training_data import Settings
from conftest import ROOT
from tiny import make_model
from toy_training import SETTINGS, gradients

PLACES = ["memory and disk", "two cards"]
TRAINABLE = pytest.mark.parametrize("spread", ["hooks alone", "two cards"], indirect=True)
SPEC = AdapterSpec((1, 3), (0, 2), 4, 8, ("q_proj", "down_proj"))
IDS = torch.tensor([[5, 9, 13, 17, 21, 25, 29, 33]])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with an output head of its own: a tied one would lie where the embedding does."""
    return make_model(tmp_path_factory.mktemp("untied"), tie_word_embeddings=False)


@pytest.fixture(params=PLACES)
def spread(request, folder, tmp_path):
    """A function that loads the model with its layers in two places."""
    from accelerate import dispatch_model
    from transformers import AutoModelForCausalLM

    if request.param == "two cards" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two cards, this machine has {torch.cuda.device_count()}")
    far = 1 if request.param == "two cards" else "disk"
    near = "cpu" if far == "disk" else 0
    ends = {
        "model.embed_tokens": near,
        "model.rotary_emb": near,
        "model.norm": near,
        "lm_head": near if near == "cpu" else 1,
    }
    layers = {f"model.layers.{layer}": near if layer < 2 else far for layer in range(4)}

    def load():
        if request.param == "hooks alone":
            return dispatch_model(plain(folder), ends | dict.fromkeys(layers, "cpu"), "cpu", force_hooks=True)
        return AutoModelForCausalLM.from_pretrained(
            folder, device_map=ends | layers, offload_folder=tmp_path / "offload", dtype=torch.float32
        ).eval()

    return load


def plain(folder):
    return models.load_model(folder, "float32", "cpu")


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found.detach().cpu(), expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": "sensitivity", "pool": "all"},
        {"metric": "rope_influence", "method": "output", "text_tokens": 40, "max_texts": 1},
        {"metric": "rope_influence", "method": "removal", "text_tokens": 40, "max_texts": 1},
        {"metric": "rope_influence", "method": "local", "text_tokens": 40, "max_texts": 1},
        {"metric": "patching"},
        {"metric": "early_exit"},
        {"metric": "input_output_cka"},
    ],
    ids=lambda settings: settings.get("method", settings["metric"]),
)
def test_profiles_are_those_of_one_device(spread, folder, settings):
    tokenizer = models.load_tokenizer(folder)
    files = [ROOT / f"data/pairs/{part}.jsonl" for part in ("tasks", "paraphrases", "texts")]
    data = read_data(files[:1], files[1], 6, files[2], None, tokenizer)
    found, expected = (
        profiles.compute(settings["metric"], model, tokenizer, settings | {"seed": 0}, data, lambda *_: None).profile
        for model in (spread(), plain(folder))
    )
    assert found["value"].tolist() == pytest.approx(expected["value"].tolist(), rel=1e-4, abs=1e-7)


def test_a_forward_from_a_layer_leaves_the_hooks_in_place(spread):
    model = spread()
    layers = models.decoder_layers(model)
    with torch.no_grad(), recorded(layers) as calls:
        whole = model(input_ids=IDS, use_cache=False).logits
    before = [layer.forward for layer in layers]
    hidden = calls[2][0][0]
    with torch.no_grad(), resumed(model, 2, hidden):
        assert close(model(input_ids=IDS, use_cache=False).logits, whole.cpu())
    assert [layer.forward for layer in layers] == before
    with torch.no_grad():
        assert close(model(input_ids=IDS, use_cache=False).logits, whole.cpu())


@pytest.mark.parametrize("spec", [AdapterSpec((), (1, 2)), AdapterSpec((), (), temperature_layers=(0, 3))])
def test_garfa_and_temperatures_are_those_of_one_device(spread, folder, spec):
    check_adapted(spread, folder, spec)


@TRAINABLE
def test_lora_and_garfa_are_those_of_one_device(spread, folder):
    check_adapted(spread, folder, SPEC)


def check_adapted(spread, folder, spec) -> None:
    logits = []
    for model in (spread(), plain(folder)):
        torch.manual_seed(0)
        adapted = adapters.adapt(model, spec).eval()
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2)
            logits.append(adapted(input_ids=IDS, use_cache=False).logits)
    assert close(logits[0], logits[1])


@TRAINABLE
@pytest.mark.parametrize("packing", [True, False])
def test_training_steps_have_the_gradients_of_one_device(spread, folder, mixture, packing):
    from colocate.packed_attention import per_example
    from colocate.training_data import read_examples

    settings = Settings.of(SETTINGS | {"packing": packing})
    examples, _ = read_examples(mixture["train"], models.load_tokenizer(folder), settings, 6)
    found = []
    for model in (spread(), plain(folder)):
        torch.manual_seed(0)
        adapted = adapters.adapt(model, SPEC)
        device = str(model.device)
        run = Run({"train": examples}, [], settings, {"lora": 1e-3, "garfa": 1e-2}, device)
        with per_example(adapted):
            found.append((accumulate(adapted, run, examples), gradients(adapted)))
    (loss, here), (expected_loss, there) = found
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert here.keys() == there.keys()
    for name, gradient in there.items():
        assert torch.allclose(here[name].cpu(), gradient, rtol=1e-3, atol=1e-6), name


def test_log_likelihoods_and_generation_are_those_of_one_device(spread, folder):
    from lm_eval.api.instance import Instance

    answers = []
    for model in (spread(), plain(folder)):
        live = LiveModel(model, models.load_tokenizer(folder), 4)
        asked = [Instance("loglikelihood", {}, ("2 + 2 =", f" {n}"), n) for n in (3, 4)]
        written = [Instance("generate_until", {}, ("One, two,", {"until": ["."], "max_gen_toks": 5}), 0)]
        answers.append(([score for score, _ in live.loglikelihood(asked)], live.generate_until(written)))
    assert answers[0][0] == pytest.approx(answers[1][0], rel=1e-4)
    assert answers[0][1] == answers[1][1]


def test_layers_are_spread_where_a_job_has_several_cards(monkeypatch):
    for cards, expected in ((0, {"": "cuda"}), (1, {"": "cuda"}), (2, "balanced"), (4, "balanced")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda cards=cards: cards)
        assert models.device_map("cuda") == expected
        assert models.device_map("cpu") == {"": "cpu"}
