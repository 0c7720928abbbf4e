"""IFEval on made-up rows in the schema of its repository: answers that follow their instructions score 1, others 0."""

import pytest

from evaluating import mirror, run
from references import load

SOURCE = "google/IFEval"
ENTRY = {"task": "ifeval", "source": SOURCE, "chat_template": True}
ARGUMENTS = ("num_words", "relation", "keywords", "capital_frequency", "capital_relation")
ROWS = [  # (instructions, their arguments, an answer that follows them, one that does not)
    (["punctuation:no_comma"], [{}], "Yes it is", "Yes, it is"),
    (["startend:quotation"], [{}], '"Yes"', "Yes"),
    (["keywords:existence"], [{"keywords": ["oak"]}], "An oak tree", "A tree"),
    (["length_constraints:number_words"], [{"num_words": 4, "relation": "at least"}], "one two three four", "one"),
    (
        ["punctuation:no_comma", "change_case:capital_word_frequency"],
        [{}, {"capital_frequency": 2, "capital_relation": "at least"}],
        "TWO WORDS here",
        "TWO words here",  # one of its two instructions
    ),
]


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The rows, and a sentence splitter that knows nothing, in the place of the one that NLTK downloads."""
    import nltk

    rows = [
        {
            "key": number,
            "prompt": f"Do as you are told, {number}.",
            "instruction_id_list": names,
            "kwargs": [dict.fromkeys(ARGUMENTS) | own for own in arguments],  # the hub's rows name all, with nulls
        }
        for number, (names, arguments, _, _) in enumerate(ROWS)
    ]
    mirror(tmp_path, SOURCE, "default", "train", rows)
    folder = tmp_path / "nltk/tokenizers/punkt_tab/english"
    folder.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (folder / name).touch()
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    return tmp_path


def test_answers_that_follow_score_one_and_others_nothing(datasets):
    (task,) = load(ENTRY, datasets, datasets / "cache").values()
    for document, (_, _, right, wrong) in zip(task.eval_docs, ROWS, strict=True):
        for answer, score in ((right, True), (wrong, False), ("", False)):
            found = task.process_results(document, [answer])
            assert found["prompt_level_strict_acc"] is score, (document, answer)


def test_a_model_is_asked_through_its_chat_template_and_has_no_reference(tiny_llama, datasets):
    summary, items = run(tiny_llama, ENTRY | {"limit": 3, "max_new_tokens": 3}, datasets_dir=datasets)
    assert (summary["status"], summary["n"], summary["chance"]) == ("ok", 3, 0.0)
    assert summary["version"] == {"ifeval": "4.0"}
    assert summary["settings"]["chat_template"] is True
    assert summary["gold_logprob"] is None
    assert items["gold_logprob"].isna().all()
    assert all("Do as you are told" in prompt and prompt != "Do as you are told" for prompt in items["prompt"])
