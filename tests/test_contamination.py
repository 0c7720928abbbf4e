"""The 13-gram check: it finds what was planted, agrees with brute force, and finds nothing in the built-in data."""

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from colocate import contamination
from colocate.errors import InputError
from colocate.instructions import SPLITS
from colocate.rows import digest

DATA = Path(__file__).resolve().parents[1] / "data"


def turns(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_it_finds_what_was_planted_and_agrees_with_brute_force(tmp_path):
    rng = random.Random(0)
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(rng.choices(words, k=rng.randint(5, 30))) for _ in range(30)]
    references = [" ".join(rng.choices(words, k=20)) for _ in range(10)]
    inside = references[3].split()[2:17]  # 15 words: two shared 13-grams and more
    texts[7] = "Before it " + " ".join(inside).upper() + " after it"
    rows = [{"id": f"r{i}", "messages": turns(text, "so be it")} for i, text in enumerate(texts)]
    rows[9]["messages"] = turns("hidden in", f"the answer {references[5]}")
    path = write(tmp_path / "train.jsonl", rows)
    found = contamination.find({"train": path}, {"bench": [(text,) for text in references]}, n=13)

    def grams(text):
        words = text.lower().split()
        return {" ".join(words[i : i + 13]) for i in range(len(words) - 12)}

    expected = {
        (row["id"], index)
        for row in rows
        for index, reference in enumerate(references)
        if grams(" ".join(turn["content"] for turn in row["messages"])) & grams(reference)
    }
    assert {("r7", 3), ("r9", 5)} <= expected
    assert set(zip(found["item"], found["reference_item"], strict=True)) == expected
    assert list(found.columns) == ["split", "item", "source", "reference", "reference_item", "ngram"]
    assert found.loc[found["item"] == "r7", "ngram"].item() == " ".join(inside[:13])


def test_short_items_count_when_the_whole_of_them_occurs(tmp_path):
    row = {"id": "x", "messages": turns("one two three four five six seven eight nine", "ok")}
    path = write(tmp_path / "t.jsonl", [row])
    references = ["two three four five six seven eight nine", "two three four five six seven eight ten", "one two"]
    found = contamination.find({"test": path}, {"b": [(text,) for text in references]})
    assert found["reference_item"].tolist() == [0]


def test_an_item_counts_by_its_question_alone_and_across_question_and_answer(tmp_path):
    question, answer = "Which of the seven small rivers runs by the mill", "the long grey one in the far west"
    rows = [
        {"id": "question", "messages": turns(question, "I do not know")},
        {"id": "across", "messages": turns("Small rivers runs by the mill", f"{answer} of all")},
        {"id": "other", "messages": turns("small rivers run by the mill", answer)},
    ]
    item = write(tmp_path / "bench.jsonl", [{"question": question, "answer": answer}])
    references = {"bench": contamination.reference_texts(item)}
    found = contamination.find({"train": write(tmp_path / "train.jsonl", rows)}, references)
    assert found["item"].tolist() == ["question", "across"]


PLANTED = "Quietly the old clockmaker winds eleven copper springs before the second bell of the harbour rings"


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "prompt": PLANTED, "correct": " yes", "incorrect": " no", "incorrect2": " so"},
        {"id": "1", "prompt": "Say it:", "correct": " else", "paraphrase": f" {PLANTED}"},
        {"id": "1", "text": f"A story. {PLANTED}. The end."},
        {"question": PLANTED, "choices": ["a", "b", "c", "d"], "answer": 2},
        {"question": "Which sentence?", "choices": ["a", PLANTED], "answer": 1},
        {"question": "Which one?", "choices": {"text": ["a", PLANTED], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": "How many?", "answer": f"{PLANTED}. #### 4"},
        {"problem": "Show it.", "solution": PLANTED},
        {"prompt": "def f():", "canonical_solution": f"    # {PLANTED}", "test": "", "entry_point": "f"},
    ],
)
def test_every_kind_of_item_is_held_against_the_data(tmp_path, row):
    data = [{"id": "clean", "messages": turns("What is new?", "Nothing.")}]
    data += [{"id": "copy", "messages": turns(f"Read this: {PLANTED}", "Thanks.")}]
    references = {"items": contamination.reference_texts(write(tmp_path / "items.jsonl", [row]))}
    found = contamination.find({"train": write(tmp_path / "train.jsonl", data)}, references)
    assert found["item"].tolist() == ["copy"]


def test_wrong_choices_of_an_item_are_not_looked_for(tmp_path):
    row = {"question": "Which?", "choices": [PLANTED, "b"], "answer": 1}
    assert contamination.reference_texts(write(tmp_path / "a.jsonl", [row])) == [("Which?", "Which? b")]


def test_items_of_pairs_benchmarks_and_texts(tmp_path):
    rows = [{"prompt": "1 + 1 =", "correct": " 2"}, {"question": "Which?", "answer": "a"}, {"text": "A story."}]
    expected = [("1 + 1 =", "1 + 1 = 2"), ("Which?", "Which? a"), ("A story.",)]
    assert contamination.reference_texts(write(tmp_path / "a.jsonl", rows)) == expected
    with pytest.raises(InputError, match="b.jsonl:1: no field question or prompt .*; found answer"):
        contamination.reference_texts(write(tmp_path / "b.jsonl", [{"answer": "2"}]))


def test_a_folder_as_on_the_hub_is_read_without_its_training_split(tmp_path):
    import pandas as pd

    folder = tmp_path / "hub" / "subject"
    folder.mkdir(parents=True)
    write(folder / "test.jsonl", [{"question": "a?", "answer": "1"}])
    write(folder / "train.jsonl", [{"question": "never?", "answer": "1"}])
    (folder / "validation.json").write_text(json.dumps([{"question": "b?", "answer": "2"}]))
    choices = {"question": "c?", "choices": ["x", "y"], "answer": 1}
    pd.DataFrame([choices]).to_parquet(folder / "test-00000.parquet")
    pd.DataFrame([{"Question": "d?", "Correct Answer": "z"}]).to_csv(folder / "main.csv", index=False)
    (folder.parent / "manifest.json").write_text("{}")
    found = contamination.reference_texts(folder.parent)
    assert sorted(found) == [("a?", "a? 1"), ("b?", "b? 2"), ("c?", "c? y"), ("d?", "d? z")]
    (tmp_path / "empty").mkdir()
    (folder / "only-train").mkdir()
    write(folder / "only-train/train.jsonl", [{"question": "never?", "answer": "1"}])
    with pytest.raises(InputError, match="only-train: no file of test items"):
        contamination.reference_texts(folder / "only-train")
    with pytest.raises(InputError, match="empty: no data file in this folder"):
        contamination.reference_texts(tmp_path / "empty")


def test_the_builtin_data_hold_no_item_of_a_builtin_benchmark_and_no_pair():
    paths = [*sorted((DATA / "benchmarks").rglob("*.jsonl")), *sorted((DATA / "pairs").glob("*.jsonl"))]
    names = {path.name for path in paths}
    assert {"test.jsonl", "validation.jsonl", "tasks.jsonl", "paraphrases.jsonl", "texts.jsonl"} <= names
    references = {str(path.relative_to(DATA)): contamination.reference_texts(path) for path in paths}
    assert sum(map(len, references.values())) > 600
    assert contamination.find({split: DATA / "instructions" / f"{split}.jsonl" for split in SPLITS}, references).empty


def test_items_of_a_data_set_with_other_columns_count_by_their_longest_text(tmp_path):
    rows = [
        {"sentence": PLANTED, "option1": "cup", "option2": "box", "answer": "2"},
        {"activity_label": "Clocks", "ctx": f"{PLANTED} and", "endings": ["a", "b"], "label": "0"},
        {"goal": "Wind it", "sol1": PLANTED, "sol2": "no", "label": 0},
    ]
    copy = {"id": "copy", "messages": turns(f"Read this: {PLANTED} and so on", "Thanks.")}
    train = write(tmp_path / "train.jsonl", [copy])
    for row in rows:
        references = {"items": contamination.reference_texts(write(tmp_path / "items.jsonl", [row]))}
        assert contamination.find({"train": train}, references)["item"].tolist() == ["copy"]


@pytest.mark.parametrize("absolute", [False, True])
def test_items_of_yaml_files_of_yours_are_told_apart_by_folder_and_kept_private(tmp_path, monkeypatch, absolute):
    monkeypatch.chdir(tmp_path)
    own = str(tmp_path / "my_quiz") if absolute else "my_quiz"
    paths = []
    for folder, text in ((own, PLANTED), ("your_quiz", "Another question of nine words that nobody copies ever")):
        Path(folder).mkdir(parents=True)
        paths.append(write(Path(folder) / "test.jsonl", [{"question": text, "answer": "b"}]))
        write(Path(folder) / "train.jsonl", [{"question": f"Learn this: {PLANTED}", "answer": "b"}])
        paths.append(Path(folder) / "train.jsonl")
    mine = {"task": f"{own}/my_quiz.yaml", "source": "builtin", "private": True}
    benchmarks = {"mine": mine, "yours": {"task": "your_quiz/your_quiz.yaml", "source": "builtin"}}
    references = contamination.read_references(paths, benchmarks)
    assert {name: len(items) for name, items in references.items()} == {own: 1, "your_quiz": 1}
    assert contamination.private(benchmarks) == {own}
    train = write(tmp_path / "data.jsonl", [{"id": "copy", "messages": turns(PLANTED, "Thanks.")}])
    found = contamination.find({"train": train}, references, private=contamination.private(benchmarks))
    assert found[["reference", "ngram"]].to_numpy().tolist() == [[own, ""]]


def test_a_yaml_of_yours_on_a_hub_data_set_holds_both(tmp_path):
    hub = write(tmp_path / "hub.jsonl", [{"question": PLANTED, "answer": "b"}])
    folder = tmp_path / "datasets/organisation/name"
    folder.mkdir(parents=True)
    hub = hub.rename(folder / "test.jsonl")
    (tmp_path / "own").mkdir()
    beside = write(tmp_path / "own/extra.jsonl", [{"question": "Which one is it?", "answer": "b"}])
    entry = {"task": str(tmp_path / "own/own.yaml"), "source": "organisation/name", "private": True}
    references = contamination.read_references([hub, beside], {"mine": entry})
    assert set(references) == contamination.private({"mine": entry}) == {"organisation/name", str(tmp_path / "own")}


MINI = {"task": "mini", "source": "builtin", "private": False}
HUB = {"task": "some_task", "source": "organisation/name", "private": False}


def sources(folder: Path) -> list[str]:
    """Files of a built-in benchmark, of a hub data set and of pairs, each with PLANTED in it."""
    mini = folder / "data/benchmarks/mini"
    hub = folder / "datasets/organisation/name"
    for place in (mini, hub):
        place.mkdir(parents=True)
    write(mini / "test.jsonl", [{"question": PLANTED, "answer": "b"}, {"question": "Which?", "answer": "c"}])
    write(hub / "test.jsonl", [{"question": "Which?", "answer": PLANTED}])
    (hub / "manifest.json").write_text("{}")
    pairs = write(folder / "tasks.jsonl", [{"id": "pair-1", "prompt": PLANTED, "correct": " yes"}])
    return [str(mini / "test.jsonl"), str(hub / "manifest.json"), str(pairs)]


def job(folder: Path, script: str, *options: str) -> None:
    script = DATA.parent / "workflow" / "scripts" / f"{script}.py"
    done = subprocess.run([sys.executable, str(script), *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("private", [False, True])
def test_the_job_counts_by_source_and_benchmark_and_gives_examples_by_id(tmp_path, private):
    train = write(
        tmp_path / "train.jsonl",
        [{"id": f"copy-{i}", "source": "web", "messages": turns(f"{i} {PLANTED}", "so")} for i in range(7)]
        + [{"id": "clean", "source": "mine", "messages": turns("What is new?", "Nothing.")}],
    )
    benchmarks = {"mini": MINI, "other": HUB | {"private": private}}
    outputs = ["--table", str(tmp_path / "found.csv"), "--counts", str(tmp_path / "counts.csv")]
    settings = ["--settings", json.dumps({"benchmarks": benchmarks})]
    job(
        tmp_path, "check_contamination", "--splits", str(train), "--references", *sources(tmp_path), *outputs, *settings
    )
    found = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert len(found) == 3 * contamination.EXAMPLES
    assert {(row["split"], row["source"]) for row in found} == {("train", "web")}
    shown = {row["reference"]: row for row in found}
    assert set(shown) == {"mini", "organisation/name", "tasks"}
    assert shown["tasks"]["reference_item"] == "pair-1"
    assert shown["mini"]["reference_item"] == digest({"question": PLANTED, "answer": "b"})
    assert (shown["organisation/name"]["ngram"] == "") == private
    assert shown["mini"]["ngram"] != ""
    counts = {(row["source"], row["reference"]): row for row in csv.DictReader((tmp_path / "counts.csv").open())}
    keys = ("rows", "rows_found", "items", "items_found")
    assert [counts["web", "mini"][key] for key in keys] == ["7", "7", "2", "1"]
    assert [counts["mine", "mini"][key] for key in keys] == ["1", "0", "2", "0"]
    assert len(counts) == 6
    assert counts["web", "tasks"]["examples"].startswith("copy-0=pair-1 copy-1=pair-1")


def test_contaminated_rows_are_dropped_from_train_and_recorded(tmp_path):
    rows = [{"id": f"r{i}", "messages": turns(f"Question number {i}?", "An answer.")} for i in range(30)]
    for number in range(0, 30, 3):
        rows[number]["messages"] = turns(f"Question {number}: {PLANTED}", "An answer.")
    data = write(tmp_path / "mine.jsonl", rows)
    source = {"kind": "jsonl", "path": str(data), "n": 10, "heldout": 4}
    names = ("train", "validate", "test", "dropped")
    outputs = [word for name in names for word in (f"--{name}", str(tmp_path / "out" / name))]

    def mix(drop: bool) -> tuple[list[str], list[dict]]:
        settings = {"sources": [source], "seed": 0, "drop_contaminated": drop, "benchmarks": {"mini": MINI, "hub": HUB}}
        options = ["--data", str(data), *outputs, "--settings", json.dumps(settings)]
        job(tmp_path, "fetch_mixture", "--references", *references, *options)
        train = [json.loads(line)["id"] for line in (tmp_path / "out/train").read_text().splitlines()]
        return train, list(csv.DictReader((tmp_path / "out/dropped").open()))

    references, copied = sources(tmp_path), {f"r{number}" for number in range(0, 30, 3)}
    before, nothing = mix(False)
    assert set(before) & copied
    assert nothing == []
    train, dropped = mix(True)
    assert len(train) == 10
    assert not set(train) & copied
    assert {row["item"] for row in dropped} <= copied
    assert {row["reference"] for row in dropped} == {"mini", "organisation/name", "tasks"}
    assert set(before) & copied <= {row["item"] for row in dropped}


def test_two_runs_of_words_with_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(contamination, "hash", lambda gram: 0, raising=False)
    grams = contamination.Grams({"bench": [(PLANTED,)]})
    other = " ".join(f"w{i}" for i in range(20))
    assert grams.hits({"messages": turns(other, "so")}) == []
    assert [hit[:2] for hit in grams.hits({"messages": turns(PLANTED, "so")})] == [("bench", 0)]
