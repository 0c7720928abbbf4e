"""Every family of the matrix gives the numbers of plain forward passes: full, sliding, mixed, capped, with sinks."""

import pytest
import torch

import families
from colocate.evaluation.backend import disagreement
from colocate.evaluation.generation import Prompt, Writer
from colocate.evaluation.passes import Passes
from colocate.evaluation.prefixes import TokenBudget
from colocate.evaluation.scoring import score
from evaluating import written

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST = tuple(range(3, 40))  # longer than the windows of 8
CONTEXTS = [(*FIRST, 50, 51, 52, 53), (*FIRST, 60), (7, 8, 9)]
REQUESTS = [(context, ids) for context in CONTEXTS for ids in ((70, 71, 72), (80,), (81, 82))]


@torch.no_grad()
def plain(model, context: tuple, ids: tuple) -> float:
    logprobs = model(torch.tensor([[*context, *ids]]), use_cache=False).logits[0].double().log_softmax(-1)
    return sum(logprobs[len(context) - 1 + place, token].item() for place, token in enumerate(ids))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_numbers_are_those_of_plain_passes(name, attention):
    if attention == "sdpa" and name in families.EAGER_ONLY:
        pytest.skip("transformers offers no sdpa for it")
    model = families.build(name, attention=attention)
    families.draw_alphas(model)
    expected = [plain(model, *request) for request in REQUESTS]
    answers = [written(model, list(context), 5) for context in CONTEXTS]
    passes = Passes(model)
    if reason := disagreement(passes):
        assert name in {"llama_dynamic", "phi3_longrope"}, reason
        return
    assert name not in {"llama_dynamic", "phi3_longrope"}
    budget = TokenBudget(10**5)
    found = score(passes, REQUESTS, 8, budget, passes.prefix, lambda share: None)
    assert [logprob for logprob, _ in found] == pytest.approx(expected, abs=1e-4)
    writer = Writer(passes, str, ())
    prompts = [Prompt(context, 5, ()) for context in CONTEXTS]
    assert writer.write(prompts, 2, budget, passes.prefix, lambda share: None) == answers


def test_what_is_not_understood_is_left_to_the_stock_backend():
    chunked = Passes(families.build("llama"))
    chunked.kinds = {"chunked_attention", "full_attention"}
    assert "chunked_attention" in disagreement(chunked)
    wrong = Passes(families.build("llama"))
    wrong.kinds, wrong.window, wrong.apart = {"sliding_attention"}, 4, False  # its layers see everything
    assert "differ by" in disagreement(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_rounding_to_bfloat16_is_no_disagreement(smollm2, seed):
    """The real model, with adapters that move its log-probabilities further than training does."""
    from colocate import adapters, models
    from colocate.budget import AdapterSpec

    torch.manual_seed(seed)
    layers = tuple(sorted(torch.randperm(30)[:8].tolist()))
    spec = AdapterSpec(layers, layers, 16, 32, ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"))
    adapted = adapters.adapt(models.load_model(smollm2, "bfloat16", "cpu"), spec).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    assert disagreement(Passes(adapted)) == ""


@pytest.mark.slow
def test_in_bfloat16_a_wrong_beginning_is_a_disagreement(smollm2, monkeypatch):
    from colocate import models

    passes = Passes(models.load_model(smollm2, "bfloat16", "cpu"))
    prefix = passes.prefix
    monkeypatch.setattr(passes, "prefix", lambda ids: prefix(ids[1:]))  # without its first token
    assert "differ by" in disagreement(passes)


def test_the_stock_backend_then_gives_the_answers(tiny_llama, monkeypatch):
    from colocate import models
    from colocate.evaluation import backend
    from evaluating import FAMILY, REQUESTS, instances, live

    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    asked = instances("generate_until", [(text, {"until": ["e"], "max_gen_toks": 6}) for text in FAMILY])
    fast = live(model, tokenizer)
    expected = fast.loglikelihood(instances("loglikelihood", REQUESTS)), fast.generate_until(asked)
    monkeypatch.setattr(backend, "disagreement", lambda passes: "made up")
    plain = live(model, tokenizer)
    assert plain.record["one_request_at_a_time"] == "made up"
    found = plain.loglikelihood(instances("loglikelihood", REQUESTS)), plain.generate_until(asked)
    assert [f[0] for f in found[0]] == pytest.approx([e[0] for e in expected[0]], abs=1e-4)
    assert found[1] == expected[1]
