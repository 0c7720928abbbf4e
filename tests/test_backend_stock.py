"""Against lm-eval's own `hf` backend on real data: the same predictions, log-likelihoods and scores, item by item."""

import pytest

from colocate import models
from colocate.evaluation import tasks
from evaluating import BENCHMARKS, REQUESTS, adapted_model, instances, live, real_datasets
from tiny import make_model

pytestmark = pytest.mark.usefixtures("one_thread")
MMLU = {"task": "mmlu_anatomy", "source": "cais/mmlu"}
ARC = {"task": "arc_challenge", "source": "allenai/ai2_arc"}
GSM8K = {"task": "gsm8k", "source": "openai/gsm8k", "max_new_tokens": 12}
MGSM = {"task": "mgsm_native_cot_de", "source": "juletxara/mgsm", "max_new_tokens": 12}
ARMS = {"base": None, "lora": {"lora": (1, 2), "garfa": ()}, "garfa": {"lora": (1, 2), "garfa": (0, 2, 3)}}


@pytest.fixture(scope="module")
def long_llama(tmp_path_factory):
    """A token is a byte here, so prompts are long."""
    return make_model(tmp_path_factory.mktemp("long_llama"), max_position_embeddings=8192)


def arm_of(folder, arm: str, path, strength: float = 0.2):
    if ARMS[arm] is None:
        return models.load_model(folder, "float32", "cpu")
    return adapted_model(folder, path, **ARMS[arm], strength=strength)


def results(lm, task: dict, cache) -> tuple[list, dict]:
    """([what was answered of each item], scores) of a task as `lm` answers it."""
    from lm_eval import evaluator

    places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": real_datasets(), "cache_dir": cache}
    loaded = tasks.load(task, seed=1234, **places)
    found = evaluator.evaluate(lm, {"tasks": loaded}, limit=task["limit"], bootstrap_iters=0)
    (samples,), (scores,) = found["samples"].values(), found["results"].values()
    return [sample["resps"] for sample in samples], {key: value for key, value in scores.items() if "stderr" not in key}


def check_equal(model, tokenizer, task: dict, tmp_path, size: int = 4) -> list:
    from lm_eval.models.huggingface import HFLM

    stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=model.config.max_position_embeddings)
    theirs, their_scores = results(stock, task, tmp_path / "stock")
    ours, our_scores = results(live(model, tokenizer, size), task, tmp_path / "live")
    assert len(ours) == len(theirs) >= task["limit"]
    if isinstance(theirs[0][0][0], str):
        assert ours == theirs
    else:
        for one, other in zip(ours, theirs, strict=True):
            values = [[response[0] for response in side] for side in (one, other)]
            assert [value for value, _ in values[0]] == pytest.approx([value for value, _ in values[1]], abs=1e-4)
            assert [greedy for _, greedy in values[0]] == [greedy for _, greedy in values[1]]
            best = [max(range(len(side)), key=lambda choice, side=side: side[choice][0]) for side in values]
            assert best[0] == best[1]
    assert our_scores == their_scores
    return ours


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("task", "shots"), [(ARC, 0), (ARC, 5), (MMLU, 0), (MMLU, 5), (GSM8K, 0), (GSM8K, 5), (MGSM, 2)]
)
def test_a_tiny_model_answers_real_questions_alike(long_llama, tmp_path, arm, task, shots):
    model, tokenizer = arm_of(long_llama, arm, tmp_path / "adapter"), models.load_tokenizer(long_llama)
    check_equal(model, tokenizer, task | {"num_fewshot": shots, "limit": 3}, tmp_path)


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize(
    ("arm", "task", "shots", "limit"),
    [
        ("base", ARC, 0, 6),
        ("base", MMLU, 5, 4),
        ("base", GSM8K, 8, 2),
        ("garfa", ARC, 5, 2),
        ("garfa", MGSM, 8, 2),
        ("lora", GSM8K, 5, 2),
    ],
)
def test_smollm2_answers_real_questions_alike(smollm2, tmp_path, arm, task, shots, limit):
    model = arm_of(smollm2, arm, tmp_path / "adapter", strength=0.03)  # stronger, and it writes the same to everything
    tokenizer = models.load_tokenizer(smollm2)
    answers = check_equal(model, tokenizer, task | {"num_fewshot": shots, "limit": limit}, tmp_path)
    assert len({str(answer) for answer in answers}) > 1


def test_texts_become_the_same_tokens_as_with_the_stock_backend(tiny_llama):
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    stock, backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1), live(model, tokenizer)
    for text in ("Question: Why?\nAnswer:", "", "<|im_start|>user\nWhy?", " \u00e9"):
        assert backend.tok_encode(text) == stock.tok_encode(text)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert backend.apply_chat_template(turns) == stock.apply_chat_template(turns)
    for name in ("eot_token_id", "prefix_token_id", "max_length", "max_gen_toks"):
        assert getattr(backend, name) == getattr(stock, name)


def test_a_template_without_a_system_role_gets_none(tiny_llama):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    backend = live(model, tokenizer)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert backend.apply_chat_template(turns) == "user: Why?\n"


@pytest.mark.parametrize("length", [48, 1024])
def test_requests_equal_those_of_the_stock_backend_cut_or_whole(tmp_path, length):
    from lm_eval.models.huggingface import HFLM

    folder = make_model(tmp_path / "model", max_position_embeddings=length)
    model, tokenizer = models.load_model(folder, "float32", "cpu"), models.load_tokenizer(folder)
    requests = instances("loglikelihood", [*REQUESTS, ("a long context " * 10, " and its end"), ("short", " end")])
    stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=length)
    theirs, ours = stock.loglikelihood(requests), live(model, tokenizer).loglikelihood(requests)
    assert [one[0] for one in ours] == pytest.approx([other[0] for other in theirs], abs=1e-4)
    options = {"until": ["z"], "max_gen_toks": 8}
    asked = instances("generate_until", [(request.args[0], options) for request in requests[-2:]])
    assert live(model, tokenizer).generate_until(asked) == stock.generate_until(asked)
