"""Pairs made from benchmarks: the right choice stays right, the test stays unseen, the model's answers are its own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from colocate import made_pairs, questions
from colocate.errors import InputError
from colocate.made_pairs import Settings, from_benchmark, near_numbers, own_answers, sample
from colocate.models import load_model, load_tokenizer
from colocate.pairs import check, check_tokens, encode, read_pairs
from evaluating import mirror
from test_evaluation_tasks import arc

BENCHMARKS = Path(__file__).resolve().parents[1] / "data" / "benchmarks"
ENTRIES = {name: {"task": name} for name in ("mini_arc", "mini_math", "mini_mgsm", "mini_mmlu", "mini_humaneval")}


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    torch.set_num_threads(1)
    return load_tokenizer(tiny_llama)


@pytest.fixture(scope="module")
def model(tiny_llama):
    return load_model(tiny_llama, "float32", "cpu")


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    def read(name: str, split: str = "validation", entry: dict | None = None, datasets: Path = Path("none")):
        places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": datasets, "cache_dir": tmp_path_factory.mktemp("cache")}
        return questions.read(name, entry or ENTRIES[name], split, 0, **places)

    return read


def rows_of(name: str, split: str) -> dict[str, dict]:
    lines = (BENCHMARKS / name / f"{split}.jsonl").read_text().splitlines()
    return {json.loads(line)["question"]: json.loads(line) for line in lines}


def write(folder: Path, tmp_path: Path, *entries: dict, **changes) -> tuple[list, list[dict]]:
    options = {"seed": 0, "dtype": "float32", "device": "cpu", "benchmarks_dir": BENCHMARKS} | changes
    counts = made_pairs.write(tmp_path / "made.jsonl", entries, ENTRIES, folder, **options)
    return read_pairs(tmp_path / "made.jsonl"), counts


def test_made_pairs_are_sound(tiny_llama, tmp_path, tokenizer):
    names = ("mini_arc", "mini_mmlu", "mini_math", "mini_mgsm")
    pairs, counts = write(tiny_llama, tmp_path, *({"kind": "benchmark", "benchmark": name} for name in names))
    assert check(tmp_path / "made.jsonl") == []
    assert check_tokens(pairs, tokenizer, 1024) == []
    assert [count["pairs"] for count in counts] == [32, 32, 32, 32]
    assert len(pairs) == len({pair.id for pair in pairs}) == 128
    assert {pair.language for pair in pairs} == {"en", "es", "fr", "de"}
    assert {pair.domain for pair in pairs} >= {"plants", "astronomy", "add", "fish"}
    assert {pair.tags for pair in pairs} == {("benchmark",)}


def test_the_right_choice_is_the_gold_one_and_wrong_ones_are_the_rest(read, tokenizer):
    rows, left_out = from_benchmark(read("mini_arc"), tokenizer, 99, 0, 1024)
    gold = rows_of("mini_arc", "validation")
    assert len(rows) == len(gold)
    assert not left_out
    for row in rows:
        question = row["prompt"].removeprefix("Question: ").removesuffix("\nAnswer:")
        choices, answer = gold[question]["choices"], gold[question]["answer"]
        assert row["correct"] == f" {choices[answer]}"
        wrong = {f" {text}" for index, text in enumerate(choices) if index != answer}
        assert {row["incorrect"], row["incorrect2"]} < wrong
    assert {row["incorrect"] for row in rows} != {
        row["incorrect"] for row in from_benchmark(read("mini_arc"), tokenizer, 99, 1, 1024)[0]
    }


def test_numbers_are_the_gold_one_and_two_near_it(read, tokenizer):
    rows, _ = from_benchmark(read("mini_math"), tokenizer, 99, 0, 1024)
    gold = rows_of("mini_math", "validation")
    assert len(rows) == len(gold)
    for row in rows:
        question = row["prompt"].removeprefix("Question: ").removesuffix("\nAnswer:")
        assert row["correct"] == f" {gold[question]['answer']}"
        numbers = [row[name] for name in ("correct", "incorrect", "incorrect2")]
        assert len({len(number) for number in numbers}) == 1
        assert len(set(numbers)) == 3
        assert all(abs(float(number) - float(numbers[0])) <= 10 for number in numbers)


def test_near_numbers():
    rng = np.random.default_rng(0)
    drawn = {number for _ in range(200) for number in near_numbers("100", rng)[1:]}
    assert drawn == {str(number) for number in range(101, 111)}  # 99 has two digits
    drawn = {number for _ in range(300) for number in near_numbers("so it is 0.5.", rng)[1:]}
    assert drawn == {f"{number / 10:.1f}" for number in range(16) if number != 5} - {"1.6"}
    assert near_numbers("#### 1,234", rng)[0] == "1234"
    assert near_numbers("-3", rng)[0] == "-3"
    assert all(re.fullmatch(r"-[1-9]", number) for _ in range(99) for number in near_numbers("-3", rng))
    for text in ("yes", r"\frac{3}{4}", "x=5", "3 apples"):
        assert near_numbers(text, rng) == []


def test_the_same_seed_gives_the_same_pairs(read, tokenizer):
    def ids(seed: int, n: int) -> list[str]:
        return [row["id"] for row in from_benchmark(read("mini_arc"), tokenizer, n, seed, 1024)[0]]

    assert ids(3, 10) == ids(3, 10)
    assert ids(3, 10) != ids(4, 10)
    assert set(ids(3, 5)) < set(ids(3, 10))
    assert len(ids(3, 10)) == 10


def test_the_test_is_refused_and_its_questions_are_left_out(read, tmp_path):
    with pytest.raises(
        InputError, match="mini_arc: split: found test, on which mini_arc is scored; allowed: validation"
    ):
        read("mini_arc", "test")
    with pytest.raises(InputError, match="mini_arc: split: found train; allowed: validation"):
        read("mini_arc", "train")
    for split, numbers in (("train", range(8)), ("validation", range(20, 24)), ("test", range(5, 9))):
        mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", split, [arc(number) for number in numbers])
    entry = {"task": "arc_easy", "source": "allenai/ai2_arc"}
    found = read("arc_easy", "train", entry, tmp_path)
    assert [question.prompt for question in found] == [f"Question: Question {number}?\nAnswer:" for number in range(5)]
    assert found[1].choices() == (["answer 1 of 1"], ["answer 0 of 1", "answer 2 of 1", "answer 3 of 1"])
    assert {question.domain for question in found} == {"arc_easy"}
    with pytest.raises(InputError, match="split: found test, on which arc_easy is scored; allowed: train, validation"):
        read("arc_easy", "test", entry, tmp_path)


def test_a_stock_task_with_worked_answers(read, tmp_path, tokenizer):
    rows = [{"question": f"{n} and {n}?", "answer": f"They are {n} + {n}.\n#### {n + n}"} for n in range(10, 16)]
    mirror(tmp_path, "openai/gsm8k", "main", "train", rows)
    mirror(tmp_path, "openai/gsm8k", "main", "test", [{"question": "1 and 1?", "answer": "#### 2"}])
    found = read("gsm8k", "train", {"task": "gsm8k", "source": "openai/gsm8k"}, tmp_path)
    made, _ = from_benchmark(found, tokenizer, 99, 0, 1024)
    assert [row["correct"] for row in made] == [" 20", " 22", " 24", " 26", " 28", " 30"]
    assert made[0]["prompt"] == "Question: 10 and 10?\nAnswer:"
    assert made[0]["id"] == "gsm8k-train-0-benchmark"
    assert found[0].right(["10 + 10\n#### 20", "it is 20", "#### 21"]) == [True, True, False]


def test_private_benchmarks_and_programs_are_refused(read):
    with pytest.raises(InputError, match="mini_arc is private: its texts must not be written"):
        read("mini_arc", entry=ENTRIES["mini_arc"] | {"private": True})
    with pytest.raises(InputError, match="mini_humaneval: its answers are programs"):
        read("mini_humaneval")


def test_rows_that_the_model_cannot_use_are_counted(read, tokenizer):
    found = read("mini_arc")
    lengths = sorted(len(encode(tokenizer, question.prompt, "")[0]) for question in found)
    rows, left_out = from_benchmark(found, tokenizer, 99, 0, lengths[16])
    assert 0 < len(rows) < 32
    assert left_out == {"longer than the model's context": 32 - len(rows)}

    class Blind:
        """Sees only as many letters as the prompt has."""

        def __call__(self, text, **_):
            cut = text.index("Answer:") + len("Answer:")
            return {"input_ids": list(text[:cut].encode()), "offset_mapping": [(i, i + 1) for i in range(cut)]}

    rows, left_out = from_benchmark(found, Blind(), 99, 0, 1024)
    assert (rows, left_out) == ([], {"answers of the same tokens": 32})


def test_entries_without_a_pair_are_refused_with_the_reasons(tiny_llama, tmp_path):
    mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", "train", [arc(1), arc(2)])
    mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", "validation", [arc(4)])
    mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", "test", [arc(3)])
    options = {"seed": 0, "dtype": "float32", "device": "cpu", "benchmarks_dir": BENCHMARKS, "datasets_dir": tmp_path}
    benchmarks = {"arc": {"task": "arc_easy", "source": "allenai/ai2_arc"}}
    entry = {"kind": "benchmark", "benchmark": "arc", "split": "train"}
    out = tmp_path / "made.jsonl"
    with pytest.raises(InputError, match="domain: all 2 pairs are of 'arc_easy'"):
        made_pairs.write(out, [entry], benchmarks, tiny_llama, **options)
    with pytest.raises(InputError, match=r"benchmark of arc, split train: no pair \(made already 2\)"):
        made_pairs.write(out, [entry, entry], benchmarks, tiny_llama, **options)
    with pytest.raises(InputError, match="pairs.made: found no entry"):
        made_pairs.write(out, [], benchmarks, tiny_llama, **options)
    with pytest.raises(InputError, match="kind: found 'guess', allowed: benchmark, own_answers"):
        made_pairs.write(out, [entry | {"kind": "guess"}], benchmarks, tiny_llama, **options)
    with pytest.raises(InputError, match="min_confidence: found 2, allowed: 0 to 1"):
        made_pairs.write(out, [entry | {"min_confidence": 2}], benchmarks, tiny_llama, **options)


# --- the model's own answers ------------------------------------------------------------------------------------------


def test_confidence_is_that_of_the_model(model, tokenizer):
    """exp of the mean log p of the tokens drawn, by one float64 forward over prompt and answer."""
    prompt = "Question: What is 2 + 2?\nAnswer:"
    drawn = sample(model, tokenizer, prompt, ["e"], 40, 6, 1.0, [0, 1])
    assert 0 < len(drawn) <= 6
    exact = load_model(model.name_or_path, "float32", "cpu").double()
    start = len(tokenizer(prompt)["input_ids"])

    def by_one_forward(text: str) -> float:
        ids = tokenizer(prompt + text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_p = exact(ids).logits[0, start - 1 : -1].log_softmax(1)
        return float(log_p.gather(1, ids[0, start:, None]).mean().exp())

    plain = [(text, confidence) for text, confidence in drawn if "\ufffd" not in text]  # that is bytes of no text
    assert plain
    for text, confidence in plain:
        ends = [by_one_forward(text + end) for end in ("e", tokenizer.eos_token)]
        assert min(abs(confidence / end - 1) for end in ends) < 1e-4
    assert drawn == sample(model, tokenizer, prompt, ["e"], 40, 6, 1.0, [0, 1])
    assert drawn != sample(model, tokenizer, prompt, ["e"], 40, 6, 1.0, [0, 2])


def test_answers_end_at_a_stop_string_or_not_at_all(model, tokenizer):
    for text, confidence in sample(model, tokenizer, "Why", ["e", "a"], 60, 12, 1.0, [0]):
        assert not set("ea") & set(text)
        assert 0 < confidence < 1
    assert sample(model, tokenizer, "Why", ["never to be found"], 5, 4, 1.0, [0]) == []


def test_cold_sampling_is_greedy(model, tokenizer):
    ids = tokenizer("Why", return_tensors="pt")["input_ids"]
    for _ in range(6):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(2)], dim=1)
    greedy = tokenizer.decode(ids[0, 3:])
    for text, _ in sample(model, tokenizer, "Why", [greedy[-1]], 20, 3, 1e-4, [0]):
        assert text == greedy[: greedy.index(greedy[-1])]


SAMPLES = {  # by the arithmetic that is right
    "easy": [(" 4", 0.5), (" it is 4", 0.9), (" 5", 0.6), (" 6", 0.7), (" 9", 0.01), ("4", 0.99), (" ", 0.9)],
    "always right": [(" 4", 0.5), (" = 4", 0.4), (" 5", 0.05)],
    "one wrong": [(" 4", 0.5), (" 5", 0.3)],
    "never right": [(" 5", 0.5), (" 6", 0.3)],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_most_confident_answers_are_paired(read, tokenizer, monkeypatch, kind):
    """A stand-in for the model says what it answers; the task grades it."""
    (question,) = [question for question in read("mini_math") if question.target() == "8"][-1:]
    texts = [(text.replace("4", "8").replace("9", "1"), confidence) for text, confidence in SAMPLES[kind]]
    monkeypatch.setattr(made_pairs, "sample", lambda *_: texts)
    settings = Settings("own_answers", "mini_math", min_confidence=0.1)
    rows, left_out = own_answers(None, tokenizer, [question], settings, 0, 1024)
    if kind == "easy":
        (row,) = rows
        assert [row[name] for name in ("correct", "incorrect", "incorrect2")] == [" it is 8", " 6", " 5"]
        assert row["prompt"].count("Question:") == 3  # as the evaluation asks it, after two examples
        assert row["id"].endswith("-own_answers")
    else:
        reason = "no confident right answer" if kind == "never right" else "fewer than two confident wrong answers"
        assert (rows, left_out) == ([], {reason: 1})


def test_questions_that_are_examples_themselves_are_left_out(read, tokenizer, monkeypatch):
    monkeypatch.setattr(made_pairs, "sample", lambda *_: [])
    _, left_out = own_answers(None, tokenizer, read("mini_math"), Settings("own_answers", "mini_math"), 0, 1024)
    assert left_out == {"no confident right answer": 30, "shown as an example": 2}


def test_questions_beyond_the_context_are_counted(read, tokenizer):
    _, left_out = own_answers(None, tokenizer, read("mini_math"), Settings("own_answers", "mini_math"), 0, 64)
    assert left_out == {"longer than the model's context": 30, "shown as an example": 2}


def test_own_answers_need_words(read, tokenizer):
    with pytest.raises(InputError, match="own_answers: mini_arc offers choices"):
        own_answers(None, tokenizer, read("mini_arc"), Settings("own_answers", "mini_arc"), 0, 1024)


@pytest.mark.smollm2
@pytest.mark.slow
def test_own_answers_of_the_real_model(smollm2, tmp_path):
    entry = {"kind": "own_answers", "benchmark": "mini_math", "n": 3, "samples": 6}
    pairs, (counts,) = write(smollm2, tmp_path, entry, dtype="float32")
    assert counts["pairs"] == len(pairs) == 3
    gold = rows_of("mini_math", "validation")
    for pair in pairs:
        answer = gold[pair.prompt.split("Question: ")[-1].removesuffix("\nAnswer:")]["answer"]
        last = [re.findall(r"-?\d+(?:\.\d+)?", text)[-1:] for text in (pair.correct, pair.incorrect, pair.incorrect2)]
        assert last[0] == [answer]
        assert [answer] not in last[1:]
