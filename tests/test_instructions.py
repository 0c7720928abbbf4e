"""Instruction data: the built-in rows are right, splits are disjoint, masks cover answers and nothing else.

`data/verify.py` recomputes the arithmetic and runs the programs of all built-in rows: see test_data.py.
"""

import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from colocate import mixtures
from colocate.errors import InputError
from colocate.instructions import IGNORED, SPLITS, encode_example, pack, read_rows
from colocate.mixtures import build_mixture
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


def lines(split: str) -> list[dict]:
    """The rows of a built-in file with every field."""
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_builtin_files_are_what_the_generator_writes(generator):
    assert generator.make_splits() == {split: lines(split) for split in SPLITS}


def test_the_generator_has_the_same_rows_in_every_process(generator):
    code = "import generate, json; print(json.dumps(generate.make_splits()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=DATA, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == generator.make_splits()


def test_builtin_data_are_as_many_and_as_varied_as_promised(builtin):
    templates = {split: Counter(row["template"] for row in rows) for split, rows in builtin.items()}
    assert {split: len(rows) for split, rows in builtin.items()} == {"train": 4950, "validate": 348, "test": 348}
    assert {split: len(names) for split, names in templates.items()} == {"train": 162, "validate": 29, "test": 29}
    assert min(templates["train"].values()) >= 14
    assert max(templates["train"].values()) <= 32
    assert sum((DATA / f"{split}.jsonl").stat().st_size for split in SPLITS) < 3e6


def test_builtin_splits_share_no_template_and_no_question(builtin):
    for key in (lambda row: row["template"], lambda row: row["group"], lambda row: row["messages"][0]["content"]):
        found = [{key(row) for row in builtin[split]} for split in SPLITS]
        assert sum(map(len, found)) == len(set().union(*found))
    ids = [row["id"] for rows in builtin.values() for row in rows]
    assert len(ids) == len(set(ids))


def test_every_skill_is_in_every_split(generator):
    from templates import REGISTRY

    skills = {split: {template.skill for template in REGISTRY.values() if template.split == split} for split in SPLITS}
    assert skills["train"] == skills["validate"] == skills["test"]
    assert len(skills["train"]) == 10


def test_most_rows_can_be_recomputed_from_the_row_itself():
    rows = [row for split in SPLITS for row in lines(split)]
    options = [row for row in rows if "\nA. " in row["messages"][0]["content"]]
    assert sum("expression" in row for row in rows) > 2500
    assert sum("checks" in row for row in rows) > 800
    assert len(options) > 500
    letters = Counter(row["messages"][1]["content"][0] for row in options)
    assert all(letters[letter] > len(options) / 5 for letter in "ABCD")


def test_answers_without_an_expression_are_right(builtin):
    """The numeric templates whose answer is no plain arithmetic, solved again from the numbers of the question."""
    solvers = {
        "greatest_divisor": math.gcd,
        "recipe_eggs": lambda eggs, box, cakes: math.ceil(eggs * cakes / box),
        "square_root": math.isqrt,
        "nearest_ten": lambda n: round(n, -1),
        "largest_of_four": lambda *numbers: max(numbers),
    }
    checked = Counter()
    for row in (row for rows in builtin.values() for row in rows if row["template"] in solvers):
        numbers = map(int, re.findall(r"\d+", row["messages"][0]["content"]))
        last = int(re.findall(r"\d+", row["messages"][1]["content"])[-1])
        assert last == solvers[row["template"]](*numbers), row
        checked[row["template"]] += 1
    assert set(checked) == set(solvers)


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("3 * (8 + 4) - 5", (["8 + 4 = 12", "3 * 12 = 36", "36 - 5 = 31"], 31)),
        ("4 * 3 + 2 * 5", (["4 * 3 = 12", "2 * 5 = 10", "12 + 10 = 22"], 22)),
        ("12 / 4", (["12 / 4 = 3"], 3)),
        ("7 / 2", None),
        ("3 - 5 + 9", None),
    ],
)
def test_a_worked_answer_has_one_equation_a_step(generator, expression, written):
    from templates.steps import steps_of

    assert steps_of(expression) == written


def test_a_template_needs_a_name_of_its_own(generator):
    from templates import REGISTRY, add

    with pytest.raises(ValueError, match="template wages is there twice"):
        add(REGISTRY["wages"])


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


def test_templates_take_turns_in_a_part_of_the_builtin_data(tmp_path, builtin):
    build_mixture([{"kind": "builtin", "n": 162, "heldout": 58}], 0, tmp_path)
    mixed = {split: read_rows(tmp_path / f"{split}.jsonl") for split in SPLITS}
    for split, times in (("train", 1), ("validate", 2), ("test", 2)):
        every = {row["template"] for row in builtin[split]}
        assert Counter(row["template"] for row in mixed[split]) == dict.fromkeys(every, times)


def test_builtin_splits_stay_as_they_are_in_the_files(tmp_path, builtin):
    build_mixture([{"kind": "builtin", "heldout": 348}], 0, tmp_path)
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
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"messages": "\xff"}\n')
    with pytest.raises(InputError, match="rows.jsonl:2: not UTF-8"):
        read_rows(path)
    listed = tmp_path / "rows.json"
    listed.write_bytes(b'["\xff"]')
    with pytest.raises(InputError, match="rows.json: not UTF-8"):
        read_rows(listed)
    with pytest.raises(InputError, match=r"absent.jsonl: no such file"):
        read_rows(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kind": "web"}, r"sources\[0\].kind: found 'web', allowed: builtin, jsonl, hub"),
        ({"kind": "hub"}, r"sources\[0\].dataset: missing; kind hub needs the id"),
        (
            {"kind": "hub", "dataset": "a/b", "path": "c"},
            r"sources\[0\]: unknown key 'path', allowed for kind hub: dataset",
        ),
        ({"kind": "builtin", "size": 4}, r"sources\[0\]: unknown key 'size'"),
        ({"kind": "builtin", "n": 0}, r"sources\[0\].n: found 0"),
        ({"kind": "jsonl"}, r"sources\[0\].path: missing"),
        ({"kind": "builtin", "n": 5000}, r"train has 4950 of 5000 rows; .*: lower n or heldout"),
    ],
)
def test_bad_sources_are_refused(tmp_path, source, says):
    with pytest.raises(InputError, match=says):
        build_mixture([source], 0, tmp_path)


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
    assert mixtures.BUILTIN == DATA
