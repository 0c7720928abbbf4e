"""Log-likelihoods of the live model against plain forward passes, in batches of every size, with shared beginnings."""

import numpy as np
import pytest
import torch

from colocate import models
from colocate.evaluation.passes import Passes
from colocate.evaluation.scoring import WIDEST_TREE, trees
from evaluating import FAMILY, REQUESTS, SHOTS, adapted_model, instances, live, reference

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return models.load_tokenizer(tiny_llama)


@pytest.fixture(params=["llama", "adapter"])
def model(request, tiny_llama, tmp_path):
    if request.param == "llama":
        return models.load_model(tiny_llama, "float32", "cpu")
    return adapted_model(tiny_llama, tmp_path / "adapter")


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_log_likelihoods_equal_plain_forward_passes(model, tokenizer, batch_size):
    expected = [reference(model, tokenizer, *pair) for pair in REQUESTS]
    found = live(model, tokenizer, batch_size).loglikelihood(instances("loglikelihood", REQUESTS))
    np.testing.assert_allclose([f[0] for f in found], [e[0] for e in expected], atol=1e-4)
    assert [f[1] for f in found] == [e[1] for e in expected]


def test_greedy_continuations_are_recognised(model, tokenizer):
    """What the model would write is greedy; the flag is not always False."""
    ids = tokenizer("Question: Why?\nAnswer:", return_tensors="pt").input_ids
    with torch.no_grad():
        best = model(ids).logits[0, -1].argmax().item()
    backend = live(model, tokenizer)
    scores = backend._loglikelihood_tokens([(("", ""), ids[0].tolist(), [token]) for token in (best, best - 1)])
    assert [greedy for _, greedy in scores] == [True, False]


def test_the_head_computes_in_float32(tiny_llama, tokenizer):
    """A bfloat16 model: log-probabilities of the float32 product of its last hidden state, not on the bfloat16 grid."""
    model = models.load_model(tiny_llama, "bfloat16", "cpu")
    backend, seen = live(model, tokenizer), []
    model.model.norm.register_forward_hook(lambda _, inputs, output: seen.append(output))
    ids = tokenizer("Question: Why?\nAnswer:").input_ids
    found = backend._loglikelihood_tokens([(("", ""), ids, [token]) for token in range(259)])
    (hidden,) = seen
    expected = (hidden[0, len(ids) - 1].float() @ model.model.embed_tokens.weight.float().T).log_softmax(0)
    np.testing.assert_allclose([f[0] for f in found], expected.detach().numpy(), atol=1e-4)
    assert len({f[0] for f in found}) > 250


def widths_of(model) -> list:
    """Shapes of the ids of every forward pass from here on."""
    widths = []
    model.register_forward_pre_hook(lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape), with_kwargs=True)
    return widths


def test_few_shot_examples_and_contexts_are_run_once(tiny_llama, tokenizer):
    """Eight requests on four questions: the examples, then all questions, each with both answers in one row."""
    model = models.load_model(tiny_llama, "float32", "cpu")
    backend = live(model, tokenizer, 4)
    widths = widths_of(model)
    requests = [(context, answer) for context in FAMILY for answer in (" yes", " no")]
    backend.loglikelihood(instances("loglikelihood", requests))
    shared = len(tokenizer(SHOTS + "Question: ").input_ids)
    longest = max(len(tokenizer(context).input_ids) for context in FAMILY) - shared
    assert widths == [(1, shared), (4, longest + len(" yes") - 1 + len(" no") - 1)]
    backend.loglikelihood(instances("loglikelihood", [(context, " maybe") for context in FAMILY]))
    assert len(widths) == 3  # the beginning is remembered


def test_a_prefix_that_is_not_kept_apart_gives_the_same(tiny_llama, tokenizer):
    """What GPUs do: each row begins with a copy of the shared tokens, and the family's own attention runs."""
    model = models.load_model(tiny_llama, "float32", "cpu")
    backend = live(model, tokenizer)
    apart = backend.loglikelihood(instances("loglikelihood", REQUESTS))
    assert backend.passes.apart
    backend.passes.apart = False
    backend._prefixes.clear()
    joined = backend.loglikelihood(instances("loglikelihood", REQUESTS))
    np.testing.assert_allclose([a[0] for a in apart], [j[0] for j in joined], atol=1e-4)


def test_trees_hold_every_request_once_and_do_not_grow_without_bound():
    requests = [((1, 2, 3), (5,) * 200) for _ in range(7)] + [((1, 2), (6,))] * 3
    found = trees(requests)
    assert sorted(index for tree in found for index in tree.requests) == list(range(10))
    assert max(tree.rest(0) for tree in found) <= 3 + max(WIDEST_TREE, 200)
    assert [len(tree.requests) for tree in found] == [2, 2, 2, 1, 3]


def test_rolling_log_likelihoods_cover_a_text_once(tiny_llama, tokenizer):
    """Those of a text that fits are one forward pass after the first token; a longer one is cut into windows."""
    model = models.load_model(tiny_llama, "float32", "cpu")
    backend = live(model, tokenizer)
    text = "It rained. " * 6
    (found,) = backend.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,)]))
    ids = [tokenizer.bos_token_id or tokenizer.eos_token_id, *tokenizer(text).input_ids]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    assert found == pytest.approx(logprobs.gather(1, torch.tensor(ids[1:])[:, None]).sum().item(), abs=1e-3)
    model.config.max_position_embeddings = 20
    (short,) = backend.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,)]))
    assert short != pytest.approx(found, abs=1e-3)


def test_passes_leave_the_model_as_it_was(tiny_llama, tokenizer):
    model = models.load_model(tiny_llama, "float32", "cpu")
    ids = tokenizer("Question: Why?", return_tensors="pt").input_ids
    with torch.no_grad():
        before = model(ids).logits
        Passes(model).prefix(tuple(range(3, 30)))
        assert model.config._attn_implementation == "sdpa"
        assert torch.equal(model(ids).logits, before)
