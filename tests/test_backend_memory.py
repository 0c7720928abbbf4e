"""The token budget: it bounds what goes through a model at once, and halves by itself where memory runs out."""

import logging

import pytest
import torch

from colocate import models
from colocate.errors import InputError
from evaluating import FAMILY, REQUESTS, instances, live, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return models.load_tokenizer(tiny_llama)


class Memory:
    """Passes with more than `most` rows fail as torch does; `rows`: of the passes that went through."""

    def __init__(self, model, most: int, error=None):
        self.most, self.rows = most, []
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        model.register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, _, args, kwargs):
        rows = len(kwargs["input_ids"])
        if rows > self.most:
            raise self.error
        self.rows.append(rows)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "python"])
def test_scores_are_the_same_with_less_memory(tiny_llama, caplog, error):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    requests = instances("loglikelihood", REQUESTS)
    expected = live(model, tokenizer).loglikelihood(requests)
    small = live(model, tokenizer, 8, batch_tokens=4096)
    memory = Memory(model, 2, error)
    with caplog.at_level(logging.WARNING):
        found = small.loglikelihood(requests)
    assert [f[0] for f in found] == pytest.approx([e[0] for e in expected], abs=1e-4)
    assert max(memory.rows) == 2
    assert small.record["batch_tokens_halved"] > 0
    assert small.record["batch_tokens"] == 4096 >> small.record["batch_tokens_halved"]
    assert "memory ran out" in caplog.text
    assert f"batch_tokens is now {small.record['batch_tokens']}" in caplog.text


def test_answers_are_the_same_with_less_memory(tiny_llama):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    requests = instances("generate_until", [(text, {"until": [], "max_gen_toks": 6}) for text in FAMILY])
    expected = live(model, tokenizer).generate_until(requests)
    small = live(model, tokenizer, 8, batch_tokens=512)
    memory = Memory(model, 1)
    assert small.generate_until(requests) == expected
    assert set(memory.rows) == {1}
    assert small.record["batch_tokens_halved"] > 0


def test_memory_that_holds_no_single_request_is_an_error(tiny_llama):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    backend = live(model, tokenizer)
    Memory(model, 0)
    with pytest.raises(InputError, match="memory ran out on a single request.*fewer few-shot examples"):
        backend.loglikelihood(instances("loglikelihood", REQUESTS[:3]))
    with pytest.raises(InputError, match="memory ran out on a single request"):
        backend.generate_until(instances("generate_until", [("x", {"until": [], "max_gen_toks": 2})]))


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny_llama):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    backend = live(model, tokenizer)
    Memory(model, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        backend.loglikelihood(instances("loglikelihood", REQUESTS[:3]))
    assert backend.record["batch_tokens_halved"] == 0


def test_the_budget_bounds_rows_and_reaches_the_run_record(tiny_llama):
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    backend = live(model, tokenizer, 64, batch_tokens=100)
    memory = Memory(model, 64)
    backend.loglikelihood(instances("loglikelihood", REQUESTS))
    backend.generate_until(instances("generate_until", [(text, {"until": [], "max_gen_toks": 6}) for text in FAMILY]))
    assert max(memory.rows) <= 4
    record = {}
    run(tiny_llama, {"task": "mini_arc", "limit": 2}, batch_tokens=300, record=record)
    assert record == {"batch_tokens": 300, "batch_tokens_halved": 0, "one_request_at_a_time": ""}
