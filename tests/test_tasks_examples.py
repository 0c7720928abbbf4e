"""Few-shot examples: drawn anew for each question by the study's seed, or the same first ones before every question."""

import pytest

from colocate.errors import InputError
from colocate.evaluation import definitions
from evaluating import mirror, real_datasets, run
from references import load
from test_evaluation_tasks import arc

ARC = {"task": "arc_easy", "source": "allenai/ai2_arc", "num_fewshot": 3}


@pytest.fixture
def datasets(tmp_path):
    for split, numbers in (("train", range(20, 40)), ("test", range(6))):
        mirror(tmp_path / "datasets", ARC["source"], "ARC-Easy", split, [arc(number) for number in numbers])
    return tmp_path / "datasets"


def beginnings(entry: dict, datasets, cache, count: int = 5) -> list[str]:
    """What stands before each of the first questions."""
    (task,) = load(entry, datasets, cache).values()
    found = [task.fewshot_context(task.eval_docs[i], entry["num_fewshot"]) for i in range(count)]
    return [text.removesuffix(task.doc_to_text(task.eval_docs[i])) for i, text in enumerate(found)]


def test_the_first_examples_stand_before_every_question_where_asked_for(datasets, tmp_path):
    drawn = beginnings(ARC, datasets, tmp_path / "cache")
    assert len(set(drawn)) == 5
    (first,) = set(beginnings(ARC | {"first_n": True}, datasets, tmp_path / "cache"))
    places = [first.index(f"Question {number}?") for number in (20, 21, 22)]
    assert places == sorted(places)
    assert "Question 23?" not in first
    assert beginnings(ARC | {"first_n": False}, datasets, tmp_path / "cache") == drawn


def test_results_say_which_examples_were_asked_for(tiny_llama, datasets):
    summaries = [
        run(tiny_llama, ARC | more | {"limit": 2}, datasets_dir=datasets)[0] for more in ({"first_n": True}, {})
    ]
    assert [one["settings"]["first_n"] for one in summaries] == [True, False]
    assert summaries[0]["prompt_hash"] != summaries[1]["prompt_hash"]
    assert summaries[0]["data_digest"] == summaries[1]["data_digest"]


@pytest.mark.parametrize("more", [{}, {"first_n": True}])
def test_more_examples_than_there_are_is_an_error(datasets, tmp_path, more):
    wanted = ARC | more | {"num_fewshot": 21}
    with pytest.raises(InputError, match="arc_easy: num_fewshot: found 21; its data has 20 to choose from"):
        load(wanted, datasets, tmp_path / "cache")


@pytest.mark.parametrize("task", ["mgsm_direct_de", "mgsm_native_cot_en"])
def test_it_is_lm_eval_s_own_sampler(tmp_path, task):
    """The same prompts as lm-eval's YAML with `fewshot_config: {sampler: first_n}`; MGSM's examples in their order."""
    ((stock, _),) = definitions.find(task, None)
    (tmp_path / "own.yaml").write_text(f"include: {stock.yaml_path}\ntask: own\nfewshot_config: {{sampler: first_n}}\n")
    entry = {"task": task, "source": "juletxara/mgsm", "num_fewshot": 8}
    data = real_datasets()
    theirs = beginnings(entry | {"task": str(tmp_path / "own.yaml")}, data, tmp_path / "cache")
    ours = beginnings(entry | {"first_n": True}, data, tmp_path / "cache")
    assert ours == theirs
    assert len(set(ours)) == 1
    assert len(set(beginnings(entry, data, tmp_path / "cache"))) == 5  # lm-eval's default shuffles them
