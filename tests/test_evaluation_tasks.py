"""lm-eval's own tasks on local data, with made-up rows."""

import numpy as np
import pytest

from colocate import evaluation, models
from colocate.errors import InputError
from colocate.evaluation import items as tables
from colocate.evaluation import sandbox, tasks
from evaluating import BENCHMARKS, mirror, reference, run


@pytest.mark.slow
def test_a_stock_task_that_does_not_exist_is_named(tiny_llama, tmp_path):
    mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", "test", [arc(0)])
    with pytest.raises(InputError, match="no task.*arc_moon"):
        run(tiny_llama, {"task": "arc_moon", "source": "allenai/ai2_arc"}, datasets_dir=tmp_path)


def arc(number: int) -> dict:
    choices = {"text": [f"answer {i} of {number}" for i in range(4)], "label": list("ABCD")}
    return {"id": str(number), "question": f"Question {number}?", "choices": choices, "answerKey": "ABCD"[number % 4]}


def test_a_stock_task_on_local_data(tiny_llama, tmp_path):
    for split in ("train", "validation", "test"):
        mirror(tmp_path, "allenai/ai2_arc", "ARC-Easy", split, [arc(number) for number in range(5)])
    task = {"task": "arc_easy", "source": "allenai/ai2_arc"}
    summary, items = run(tiny_llama, task, datasets_dir=tmp_path)
    assert (summary["n"], summary["groups"], summary["source"]) == (5, 5, "allenai/ai2_arc")
    assert list(items["item"]) == [tables.item_hash(arc(number)) for number in range(5)]
    assert list(items["target"]) == [f"answer {number % 4} of {number}" for number in range(5)]


def winogrande(number: int) -> dict:
    sentence = f"The cup number {number} did not fit into the box since the _ was too small."
    return {"sentence": sentence, "option1": "cup", "option2": "box", "answer": "12"[number % 2]}


def test_a_stock_task_that_fills_its_choices_into_the_prompt(tiny_llama, tmp_path):
    rows = [winogrande(number) for number in range(4)]
    for split in ("train", "validation"):
        mirror(tmp_path, "allenai/winogrande", "winogrande_xl", split, rows)
    summary, items = run(tiny_llama, {"task": "winogrande", "source": "allenai/winogrande"}, datasets_dir=tmp_path)
    model, tokenizer = models.load_model(tiny_llama, "float32", "cpu"), models.load_tokenizer(tiny_llama)
    for row, item in zip(rows, items.to_dict("records"), strict=True):
        begin, end = row["sentence"].split("_")
        filled = [begin + row[option] for option in ("option1", "option2")]
        logprobs = [reference(model, tokenizer, text, end)[0] for text in filled]
        gold = int(row["answer"]) - 1
        assert item["gold_logprob"] == pytest.approx(logprobs[gold], abs=1e-4)
        assert item["margin"] == pytest.approx(logprobs[gold] - logprobs[1 - gold], abs=1e-4)
        assert (item["target"], item["correct"]) == (filled[gold], item["margin"] > 0)
    assert summary["accuracy"] == np.mean(items["margin"] > 0)


def gpqa(number: int) -> dict:
    wrong = {f"Incorrect Answer {i}": f"wrong {number}.{i}" for i in (1, 2, 3)}
    return {"Question": f"Question {number}?", "Correct Answer": f"right {number}", **wrong}


def test_the_order_of_choices_is_that_of_the_seed(tmp_path):
    mirror(tmp_path, "Idavidrein/gpqa", "gpqa_main", "train", [gpqa(number) for number in range(12)])

    def order(seed: int, name: str) -> list[tuple]:
        cache = tmp_path / name
        entry = {"task": "gpqa_main_zeroshot", "source": "Idavidrein/gpqa"}
        places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": tmp_path, "cache_dir": cache}
        (task,) = tasks.load(entry, seed=seed, **places).values()
        orders = [[tuple(doc[f"choice{i}"] for i in (1, 2, 3, 4)) for doc in task.eval_docs] for _ in range(2)]
        assert orders[0] == orders[1]
        return orders[0]

    assert order(1, "a") == order(1, "b")
    assert order(1, "a") != order(2, "c")


def problem(number: int) -> dict:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f"def add_{number}(a):\n",
        "canonical_solution": f"    return a + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
        "entry_point": f"add_{number}",
    }


def test_stock_humaneval_runs_in_the_sandbox(tmp_path):
    if not sandbox.available()[0]:
        pytest.skip(sandbox.available()[1])
    mirror(tmp_path, "openai/openai_humaneval", "openai_humaneval", "test", [problem(number) for number in range(3)])
    places = {"benchmarks_dir": BENCHMARKS, "datasets_dir": tmp_path, "cache_dir": tmp_path / "cache"}
    for name in ("humaneval", "humaneval_instruct"):
        (task,) = tasks.load({"task": name, "source": "openai/openai_humaneval"}, seed=1, **places).values()
        assert task.UNSAFE_CODE
        document = task.eval_docs[1]
        assert evaluation._gold_text(task, document, chat=True) == "    return a + 1\n"
        for text, score in (("    return a + 1\n```\n", 1.0), ("    return a\n", 0.0)):
            answer = text if name.endswith("instruct") else text.replace("```\n", "")
            (programs,) = task._filters[0].filters[0]().apply([[answer]], [document])
            assert task.process_results(document, [programs]) == {"pass_at_1": score}


def test_translations_of_one_problem_are_one_group():
    documents = [{"question": "q"}, {"question": "r"}]
    assert tasks.groups("mgsm_direct_de", documents, "juletxara/mgsm") == ["0", "1"]
    assert tasks.groups("mmlu_anatomy", [{"subject": "anatomy"}] * 2, "cais/mmlu") == ["anatomy", "anatomy"]
    assert tasks.groups("gsm8k", documents, "openai/gsm8k") == ["gsm8k-0", "gsm8k-1"]
