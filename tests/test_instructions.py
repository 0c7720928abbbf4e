"""Instruction data: the built-in rows are right, splits are disjoint, masks cover answers and nothing else."""

import json
import math
import random
import re
import sys
from pathlib import Path

import pytest

from colocate import instructions
from colocate.errors import InputError
from colocate.instructions import IGNORED, SPLITS, build_mixture, contamination, encode_example, pack, read_rows
from tiny import make_tokenizer

DATA = Path(__file__).resolve().parents[1] / "data" / "instructions"


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(DATA))
    try:
        import generate

        generate.make_splits()
        yield generate
    finally:
        sys.path.remove(str(DATA))
        for name in [name for name in sys.modules if name.split(".")[0] in ("templates", "generate")]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def builtin():
    return {split: read_rows(DATA / f"{split}.jsonl") for split in SPLITS}


def turns(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ------------------------------------------------------------------------------------------------------- built-in


def test_builtin_files_are_what_the_generator_writes(generator, builtin):
    assert generator.make_splits() == builtin
    assert {split: len(rows) for split, rows in builtin.items()} == {"train": 600, "validate": 60, "test": 60}


def test_builtin_splits_share_no_template_and_no_question(builtin):
    for key in (lambda row: row["template"], lambda row: row["group"], lambda row: row["messages"][0]["content"]):
        found = [{key(row) for row in builtin[split]} for split in SPLITS]
        assert sum(map(len, found)) == len(set().union(*found))
    ids = [row["id"] for rows in builtin.values() for row in rows]
    assert len(ids) == len(set(ids))


def test_every_equation_in_the_builtin_answers_holds(builtin):
    number = r"[\d()][\d()/*+^ -]*"
    checked = 0
    for row in (row for rows in builtin.values() for row in rows):
        for equation in re.findall(rf"(?<![\w.]){number}(?:= {number})+", row["messages"][1]["content"]):
            sides = {eval(side.replace("^", "**")) for side in equation.split("=")}
            assert len(sides) == 1, row
            checked += 1
    assert checked > 300


def test_final_answers_are_the_results_of_their_last_equations(builtin):
    solvers = {  # where the last equation is not yet the result: from the numbers in the question
        "remainder": lambda n, d: n % d,
        "greatest_divisor": math.gcd,
        "recipe_eggs": lambda eggs, box, cakes: math.ceil(eggs * cakes / box),
        "legs_on_a_farm": lambda cows, hens: 4 * cows + 2 * hens,
    }
    checked = 0
    for row in (row for rows in builtin.values() for row in rows):
        match = re.search(r"= (\d+)\.[^=]* (\d+)\.$", row["messages"][1]["content"])
        if row["template"] in solvers:
            numbers = map(int, re.findall(r"\d+", row["messages"][0]["content"]))
            assert solvers[row["template"]](*numbers) == int(row["messages"][1]["content"].split()[-1][:-1]), row
        elif match:
            assert match[1] == match[2], row
            checked += 1
    assert checked > 200


def test_every_choice_names_one_of_its_options(builtin):
    choices = [row for rows in builtin.values() for row in rows if "\nA. " in row["messages"][0]["content"]]
    assert len(choices) > 100
    for row in choices:
        options = row["messages"][0]["content"].split("\n")[1:]
        assert len(set(options)) == 4
        assert row["messages"][1]["content"] in options
    letters = [row["messages"][1]["content"][0] for row in choices]
    assert all(letters.count(letter) > len(letters) / 8 for letter in "ABCD")


def test_every_python_solution_passes_its_checks(generator):
    from templates.code import FUNCTIONS, slots_of

    for name, (_, _, solution, checks, _) in FUNCTIONS.items():
        for seed in range(20):
            slots, scope = slots_of(name, random.Random(seed)), {}
            exec(solution.format(**slots), scope)
            for check in checks:
                assert eval(check.format(**slots), scope), (name, slots, check)


# --------------------------------------------------------------------------------------------------------- sources


HUB = {
    "metamathqa": (
        lambda i: {"query": f"q{i}", "response": f"r{i}", "type": "GSM_Rephrased", "original_question": f"o{i // 4}"},
        lambda i: turns(f"q{i}", f"r{i}"),
    ),
    "magicoder": (
        lambda i: {"lang": "python", "problem": f"p{i}", "solution": f"s{i}"},
        lambda i: turns(f"p{i}", f"s{i}"),
    ),
    "openhermes": (
        lambda i: {"conversations": [{"from": "human", "value": f"h{i}"}, {"from": "gpt", "value": f"g{i}"}]},
        lambda i: turns(f"h{i}", f"g{i}"),
    ),
    "codealpaca": (
        lambda i: {"instruction": f"do {i}", "input": "x" if i % 2 else "", "output": f"o{i}"},
        lambda i: turns(f"do {i}" + ("\n\nx" if i % 2 else ""), f"o{i}"),
    ),
}


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_hub_schemas_are_read(tmp_path, name, suffix):
    make, expected = HUB[name]
    rows = [make(i) for i in range(8)]
    path = tmp_path / f"data{suffix}"
    path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    read = read_rows(path, name)
    assert [row["messages"] for row in read] == [expected(i) for i in range(8)]
    assert {row["source"] for row in read} == {name}
    assert len({row["id"] for row in read}) == 8
    assert read_rows(tmp_path, name) == read  # a folder of such files


def test_mixture_is_deterministic_and_follows_its_seed(tmp_path):
    sources = [{"kind": "builtin", "n": 50, "heldout": 20}]
    counts = build_mixture(sources, 0, tmp_path / "a")
    build_mixture(sources, 0, tmp_path / "b")
    build_mixture(sources, 1, tmp_path / "c")
    assert counts == {"train": 50, "validate": 20, "test": 20}
    for split in SPLITS:
        a, b, c = ((tmp_path / folder / f"{split}.jsonl").read_bytes() for folder in "abc")
        assert a == b != c


def test_builtin_splits_stay_as_they_are_in_the_files(tmp_path, builtin):
    build_mixture([{"kind": "builtin"}], 0, tmp_path)
    for split in SPLITS:
        mixed = read_rows(tmp_path / f"{split}.jsonl")
        assert sorted(row["id"] for row in mixed) == sorted(row["id"] for row in builtin[split])


def test_rewritings_of_one_question_stay_in_one_split(tmp_path):
    make, _ = HUB["metamathqa"]
    path = write(tmp_path / "math.jsonl", [make(i) for i in range(80)])
    build_mixture([{"kind": "jsonl", "path": str(path), "n": 20, "heldout": 5}], 0, tmp_path / "out")
    groups = {split: {row["group"] for row in read_rows(tmp_path / "out" / f"{split}.jsonl")} for split in SPLITS}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values()))


def test_a_question_of_two_sources_never_meets_itself_in_another_split(tmp_path):
    rows = [{"messages": turns(f"question {i}", f"answer {i}")} for i in range(60)]
    paths = [write(tmp_path / f"{name}.jsonl", rows[:40] if name == "a" else rows) for name in "ab"]
    sources = [{"kind": "jsonl", "path": str(path), "n": 4, "heldout": 4} for path in paths]
    build_mixture(sources, 3, tmp_path / "out")
    found = [[row["messages"][0]["content"] for row in read_rows(tmp_path / "out" / f"{s}.jsonl")] for s in SPLITS]
    questions = [question for split in found for question in split]
    assert len(questions) == 24 == len(set(questions))


GOOD = {"messages": turns("q", "a")}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"messages": turns("q", "")}, r"rows.jsonl:2: messages\[1\]: field 'content': .* found ''"),
        ({"messages": turns("q", "a")[:1]}, "rows.jsonl:2: field 'messages': turns must alternate"),
        ({"messages": turns("q", "a")[::-1]}, "must alternate user, assistant"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role: found 'robot', allowed: system"),
        ({"messages": "hello"}, "field 'messages': expected a list of objects, found 'hello'"),
        ({"messages": turns("q", "a"), "group": 3}, "field 'group': expected a text that is not empty, found 3"),
        ({"text": "hello"}, r"rows.jsonl:2: fields \['text'\] fit no known schema"),
        ({"query": "q", "response": None}, "field 'response': expected a text that is not empty, found None"),
        (["a", "list"], "expected a JSON object"),
    ],
)
def test_bad_rows_are_named_with_file_line_and_field(tmp_path, bad, says):
    path = write(tmp_path / "rows.jsonl", [GOOD, bad])
    with pytest.raises(InputError, match=says):
        read_rows(path)


def test_broken_json_and_missing_files_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": ')
    with pytest.raises(InputError, match="rows.jsonl:1: not JSON"):
        read_rows(path)
    with pytest.raises(InputError, match=r"absent.jsonl: no such file"):
        read_rows(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kind": "hub"}, r"sources\[0\].kind: found 'hub', allowed: builtin, jsonl"),
        ({"kind": "builtin", "size": 4}, r"sources\[0\]: unknown key 'size'"),
        ({"kind": "builtin", "n": 0}, r"sources\[0\].n: found 0"),
        ({"kind": "jsonl"}, r"sources\[0\].path: missing"),
        ({"kind": "builtin", "n": 601}, r"train has 600 of 601 rows; .*: lower n or heldout"),
    ],
)
def test_bad_sources_are_refused(tmp_path, source, says):
    with pytest.raises(InputError, match=says):
        build_mixture([source], 0, tmp_path)


# ---------------------------------------------------------------------------------------------------- contamination


def test_contamination_finds_what_was_planted_and_agrees_with_brute_force(tmp_path):
    rng = random.Random(0)
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(rng.choices(words, k=rng.randint(5, 30))) for _ in range(30)]
    references = [" ".join(rng.choices(words, k=20)) for _ in range(10)]
    inside = references[3].split()[2:17]  # 15 words: two shared 13-grams and more
    texts[7] = "Before it " + " ".join(inside).upper() + " after it"
    rows = [{"id": f"r{i}", "messages": turns(text, "so be it")} for i, text in enumerate(texts)]
    rows[9]["messages"] = turns("hidden in", f"the answer {references[5]}")
    path = write(tmp_path / "train.jsonl", rows)
    found = contamination({"train": path}, {"bench": references}, n=13)

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
    assert list(found.columns) == ["split", "item", "reference", "reference_item", "ngram"]
    assert found.loc[found["item"] == "r7", "ngram"].item() == " ".join(inside[:13])


def test_short_references_count_when_the_whole_of_them_occurs(tmp_path):
    path = write(
        tmp_path / "t.jsonl", [{"id": "x", "messages": turns("one two three four five six seven eight nine", "ok")}]
    )
    references = ["two three four five six seven eight nine", "two three four five six seven eight ten", "one two"]
    assert contamination({"test": path}, {"b": references})["reference_item"].tolist() == [0]


def test_the_builtin_data_holds_no_item_of_a_builtin_benchmark_and_no_pair():
    data = DATA.parent
    paths = [*sorted((data / "benchmarks").rglob("*.jsonl")), *sorted((data / "pairs").glob("*.jsonl"))]
    references = {str(path.relative_to(data)): instructions.reference_texts(path) for path in paths}
    assert sum(map(len, references.values())) > 300
    assert contamination({split: DATA / f"{split}.jsonl" for split in SPLITS}, references, n=8).empty


def test_reference_texts_of_pairs_items_and_others(tmp_path):
    rows = [{"prompt": "1 + 1 =", "correct": " 2"}, {"question": "Which?", "choices": ["a", "b"]}, {"text": "A story."}]
    assert instructions.reference_texts(write(tmp_path / "a.jsonl", rows)) == ["1 + 1 = 2", "Which?", "A story."]
    with pytest.raises(InputError, match="b.jsonl:1: no field question, prompt or text; found answer"):
        instructions.reference_texts(write(tmp_path / "b.jsonl", [{"answer": "2"}]))


# --------------------------------------------------------------------------------------------------------- encoding


def decoded(tokenizer, ids, labels):
    learnt = [label for label in labels if label != IGNORED]
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return tokenizer.decode(learnt)


def test_loss_is_on_the_answer_and_its_end_of_turn_alone():
    tokenizer = make_tokenizer()
    ids, labels = encode_example(tokenizer, turns("What is 2 + 2?", "It is 4."))
    assert decoded(tokenizer, ids, labels) == "It is 4.<|im_end|>"
    prompt = tokenizer.apply_chat_template(turns("What is 2 + 2?", "")[:1], add_generation_prompt=True, tokenize=False)
    n_prompt = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert labels[:n_prompt] == [IGNORED] * n_prompt
    assert tokenizer.decode(ids) == prompt + "It is 4.<|im_end|>"


def test_every_assistant_turn_is_learnt_and_no_other():
    tokenizer = make_tokenizer()
    messages = [{"role": "system", "content": "Be brief."}, *turns("one?", "1"), *turns("two?", "2")]
    assert decoded(tokenizer, *encode_example(tokenizer, messages)) == "1<|im_end|>2<|im_end|>"


@pytest.mark.parametrize("chat_template", ["auto", "plain"])
def test_a_tokenizer_without_template_gets_the_plain_one(chat_template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    ids, labels = encode_example(tokenizer, turns("2 + 2?", "4"), chat_template)
    assert tokenizer.decode(ids) == "Question: 2 + 2?\nAnswer: 4<|im_end|>"
    assert decoded(tokenizer, ids, labels) == " 4<|im_end|>"


def test_a_template_can_be_given_and_a_wrong_one_is_refused():
    tokenizer = make_tokenizer()
    given = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}{% if add_generation_prompt %}<{% endif %}"
    assert decoded(tokenizer, *encode_example(tokenizer, turns("q", "a"), given)) == "a>"
    with pytest.raises(InputError, match="chat_template: found 'chatml', allowed: auto, plain"):
        encode_example(tokenizer, turns("q", "a"), "chatml")


def test_a_template_that_rewrites_the_past_is_refused():
    tokenizer = make_tokenizer()
    forgetful = "{{ messages[-1]['content'] }}{% if add_generation_prompt %}>{% endif %}"
    with pytest.raises(InputError, match="the prompt of message 1 is not the beginning of the whole conversation"):
        encode_example(tokenizer, turns("question", "answer"), forgetful)


# ---------------------------------------------------------------------------------------------------------- packing


def random_examples(n=40, seed=0):
    rng = random.Random(seed)
    lengths = [rng.randint(2, 30) for _ in range(n)]
    return [
        ([rng.randrange(99) for _ in range(k)], [IGNORED, *(rng.randrange(99) for _ in range(k - 1))]) for k in lengths
    ]


def test_packing_keeps_every_token_and_restarts_positions():
    examples = random_examples()
    rows = pack(examples, 64)
    assert max(len(row["input_ids"]) for row in rows) <= 64
    assert sorted(index for row in rows for index in set(row["example"])) == list(range(len(examples)))
    for row in rows:
        for index in dict.fromkeys(row["example"]):
            at = [i for i, owner in enumerate(row["example"]) if owner == index]
            assert at == list(range(at[0], at[-1] + 1))
            assert [row["input_ids"][i] for i in at] == examples[index][0]
            assert [row["labels"][i] for i in at] == examples[index][1]
            assert [row["position_ids"][i] for i in at] == list(range(len(at)))
    assert pack(examples, 64) == rows


def test_packing_is_first_fit():
    lengths = [5, 6, 3, 4, 2]
    examples = [([1] * n, [IGNORED] * n) for n in lengths]
    placed = [list(dict.fromkeys(row["example"])) for row in pack(examples, 10)]
    assert placed == [[0, 2, 4], [1, 3]]


def test_packing_refuses_what_it_would_spoil():
    with pytest.raises(InputError, match="example 0 has 11 tokens, a row at most 10"):
        pack([([1] * 11, [IGNORED] * 11)], 10)
    with pytest.raises(InputError, match="no label on its first token"):
        pack([([1, 2], [1, 2])], 10)


def test_builtin_folder_is_the_repository_s():
    assert instructions.BUILTIN == DATA
