"""Greedy answers of the live model: the same as one by one, whoever shares the batch, and never a step too many."""

import pytest
import torch

from colocate import models
from colocate.evaluation.generation import Prompt, Writer
from colocate.evaluation.prefixes import TokenBudget
from evaluating import FAMILY, adapted_model, instances, live, written

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return models.load_tokenizer(tiny_llama)


@pytest.fixture(params=["llama", "adapter"])
def model(request, tiny_llama, tmp_path):
    if request.param == "llama":
        return models.load_model(tiny_llama, "float32", "cpu")
    return adapted_model(tiny_llama, tmp_path / "adapter")


CONTEXTS = ["Tell me", "Why is it so?", *FAMILY]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_answers_equal_those_one_by_one(model, tokenizer, batch_size):
    """With two places for six prompts rows leave and join all the time."""
    options = {"until": ["e"], "do_sample": False, "max_gen_toks": 12}
    expected = [
        tokenizer.decode(written(model, tokenizer(context).input_ids, 12)).split("<|im_end|>")[0].split("e")[0]
        for context in CONTEXTS
    ]
    backend = live(model, tokenizer, batch_size)
    assert backend.generate_until(instances("generate_until", [(text, options) for text in CONTEXTS])) == expected
    assert len(set(expected)) > 2


def test_prompts_of_one_call_may_ask_for_different_things(tiny_llama, tokenizer):
    model = models.load_model(tiny_llama, "float32", "cpu")
    asked = [("Tell me", {"until": [], "max_gen_toks": 3}), ("Tell me", {"until": ["\n"], "max_gen_toks": 9})]
    backend = live(model, tokenizer)
    found = backend.generate_until(instances("generate_until", asked))
    ids = written(model, tokenizer("Tell me").input_ids, 9)
    assert found[0] == tokenizer.decode(ids[:3], skip_special_tokens=True)
    assert found[1] == tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0]


def steps_of(model, tokenizer, prompts: list[Prompt], places: int, ends=(), decode=None) -> tuple[list, list]:
    """Answers, and the rows of every forward pass."""
    backend, rows = live(model, tokenizer), []
    model.register_forward_pre_hook(lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True)
    writer = Writer(backend.passes, decode or tokenizer.decode, ends)
    answers = writer.write(prompts, places, TokenBudget(10**6), backend._prefix, lambda share: None)
    return answers, rows


def test_a_free_place_goes_to_the_next_prompt(tiny_llama, tokenizer):
    """Two places; answers of 2, 9, 2, 2, 2 tokens: as soon as a short one is done, the next begins beside the long."""
    model = models.load_model(tiny_llama, "float32", "cpu")
    rooms = [2, 9, 2, 2, 2]
    prompts = [Prompt(tuple(range(3 + i, 15 + 2 * i)), room, ()) for i, room in enumerate(rooms)]
    answers, rows = steps_of(model, tokenizer, prompts, places=2)
    assert [len(ids) for ids in answers] == rooms
    assert max(rows) == 2
    assert sum(rows) == sum(rooms)  # no row was run when it was done
    for prompt, ids in zip(prompts, answers, strict=True):
        assert ids == written(model, list(prompt.ids), prompt.room)


def test_rows_stop_at_an_end_token_and_at_a_string_within_tokens(tiny_llama, tokenizer):
    model = models.load_model(tiny_llama, "float32", "cpu")
    ids = tuple(tokenizer("Tell me").input_ids)
    free = written(model, list(ids), 12)
    (answer,), rows = steps_of(model, tokenizer, [Prompt(ids, 12, ())], 1, ends={free[4]})
    assert answer == free[: free.index(free[4]) + 1]
    assert len(rows) == len(answer)
    words = {token: f"<{token}>" for token in free}
    decode = lambda tokens: "".join(words[token] for token in tokens)  # noqa: E731
    stop = f"{free[2]}><{free[3]}"  # begins within the third token and ends within the fourth
    (answer,), _ = steps_of(model, tokenizer, [Prompt(ids, 12, (stop,))], 1, decode=decode)
    assert stop in decode(answer)
    assert stop not in decode(answer[:-1])


def test_end_tokens_of_the_generation_config_count(tiny_llama, tokenizer):
    model = models.load_model(tiny_llama, "float32", "cpu")
    ids = written(model, tokenizer("Tell me").input_ids, 6)
    model.generation_config.eos_token_id = [2, ids[1]]
    backend = live(model, tokenizer)
    (answer,) = backend.generate_until(instances("generate_until", [("Tell me", {"until": [], "max_gen_toks": 6})]))
    assert answer == tokenizer.decode(ids[: ids.index(ids[1]) + 1], skip_special_tokens=True)


def test_tasks_that_sample_are_left_to_the_stock_backend(tiny_llama, tokenizer):
    model = models.load_model(tiny_llama, "float32", "cpu")
    backend = live(model, tokenizer)
    options = {"until": [], "max_gen_toks": 20, "do_sample": True, "temperature": 5.0}
    torch.manual_seed(0)
    found = {backend.generate_until(instances("generate_until", [("Tell me", options)]))[0] for _ in range(3)}
    assert len(found) > 1
