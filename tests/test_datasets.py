"""Hub data sets on this disk: fetched whole with digests, gated ones explained, mirrors, kinds of files, mixtures."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from colocate import hub_data, rows
from colocate.errors import InputError
from colocate.files import read_json, sha256
from colocate.mixtures import build_mixture
from hub import COMMIT, client, serve

NAME = "organisation/name"


@pytest.fixture
def repository(tmp_path) -> Path:
    """A data set as the hub has it: configurations in folders, and things that are not data."""
    folder = tmp_path / "repository"
    for config in ("one", "two"):
        (folder / config).mkdir(parents=True)
        (folder / config / "test.jsonl").write_text(json.dumps({"question": config, "answer": "x"}) + "\n")
    (folder / "README.md").write_text("---\nconfigs: []\n---\n")
    (folder / "script.py").write_text("1 / 0")
    (folder / "data.tar").write_bytes(b"tar")
    return folder


@pytest.fixture
def hub(repository):
    with serve(repository, NAME, "datasets") as server:
        yield server


def fetch(hub, out: Path, name: str = NAME, revision: str | None = None, **variables: str):
    code = f"""
from pathlib import Path
from colocate import hub_data
hub_data.fetch({name!r}, Path({str(out)!r}), revision={revision!r})
"""
    return client(hub, out.parent.parent / "home", code, **variables)


# ---------------------------------------------------------------------------------------------------------------- fetch


def test_a_data_set_is_fetched_whole_at_a_commit_with_digests(hub, tmp_path):
    out = tmp_path / "datasets" / NAME
    done = fetch(hub, out, revision="v1")
    assert done.returncode == 0, done.stderr
    assert f"GET /api/datasets/{NAME}/revision/v1" in hub.served
    manifest = read_json(out / "manifest.json")
    assert (manifest["source"], manifest["revision"]) == (NAME, COMMIT)
    assert set(manifest["files"]) == {"README.md", "one/test.jsonl", "two/test.jsonl"}  # no code, no archive
    assert all(sha256(out / name) == digest for name, digest in manifest["files"].items())
    assert hub_data.folder(NAME, tmp_path / "datasets") == out
    assert [path.name for path in out.parent.iterdir()] == ["name"]
    first = (out / "manifest.json").read_bytes()
    assert fetch(hub, out).returncode == 0
    assert (out / "manifest.json").read_bytes() == first


@pytest.mark.slow  # the client waits between its attempts
def test_a_download_that_breaks_off_leaves_no_folder_and_is_continued(hub, tmp_path):
    out, hub.cut = tmp_path / "datasets" / NAME, "two/test.jsonl"
    assert f"InputError: data set {NAME}, revision main: not found or not reachable" in fetch(hub, out).stderr
    assert not out.exists()
    hub.cut = None
    assert fetch(hub, out).returncode == 0
    assert hub.served.count(f"GET /datasets/{NAME}/resolve/{COMMIT}/one/test.jsonl") == 1


def test_gated_data_without_a_token_says_which_page_to_accept_and_what_to_set(hub, tmp_path):
    out, hub.gated = tmp_path / "datasets" / NAME, "secret"
    for variables in ({}, {"HF_TOKEN": "another"}):
        said = fetch(hub, out, **variables).stderr
        assert f"gated: accept its terms on https://huggingface.co/datasets/{NAME} with your account" in said
        assert "set HF_TOKEN to a token of that account" in said
        assert not out.exists()
    assert fetch(hub, out, HF_TOKEN="secret").returncode == 0
    assert (out / "manifest.json").is_file()


def test_what_cannot_be_fetched_is_named(hub, repository, tmp_path):
    out = tmp_path / "datasets" / NAME
    said = fetch(hub, out, name="organisation/absent").stderr
    assert "InputError: data set organisation/absent, revision main: not found, or private" in said
    assert "HF_HUB_OFFLINE is set; unset it" in fetch(hub, out, HF_HUB_OFFLINE="1").stderr
    for path in repository.rglob("*.jsonl"):
        path.unlink()
    assert "no data file among README.md, data.tar, script.py; taken: *.jsonl" in fetch(hub, out).stderr


def test_data_that_changed_since_it_was_fetched_is_refused(hub, tmp_path):
    out = tmp_path / "datasets" / NAME
    fetch(hub, out)
    (out / "one/test.jsonl").write_text('{"question": "another", "answer": "x"}\n')
    with pytest.raises(InputError, match=r"one/test.jsonl: sha256: found \w+, expected \w+; fetch the data set again"):
        hub_data.folder(NAME, tmp_path / "datasets")
    (out / "one/test.jsonl").unlink()
    with pytest.raises(InputError, match="one/test.jsonl: sha256: found no file"):
        hub_data.folder(NAME, tmp_path / "datasets")


def test_a_mirror_is_used_as_it_is(repository, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "organisation").mkdir(parents=True)
    repository.rename(mirror / NAME)
    (mirror / NAME / ".git").mkdir()
    (mirror / NAME / ".git/config").write_text("x")
    files = hub_data.mirrored(NAME, mirror)
    assert [str(Path(path).relative_to(mirror / NAME)) for path in files] == [
        *("README.md", "data.tar", "one/test.jsonl", "script.py", "two/test.jsonl")
    ]
    assert hub_data.root_of([Path("elsewhere/x"), *map(Path, files)], NAME) == mirror
    assert hub_data.folder(NAME, mirror) == mirror / NAME
    with pytest.raises(InputError, match="datasets_root: .* has no data set organisation/other; put it there"):
        hub_data.mirrored("organisation/other", mirror)
    with pytest.raises(InputError, match="no data set organisation/other in .*; run the target `fetch`"):
        hub_data.folder("organisation/other", mirror)


def test_the_root_of_a_data_set_is_found_from_what_a_rule_lists():
    assert hub_data.root_of([Path("resources/datasets/a/b/manifest.json")], "a/b") == Path("resources/datasets")
    assert hub_data.root_of([Path("a/b/c/d/e.jsonl")], "b/c") == Path("a")
    assert hub_data.root_of([Path("/m/xa/b/f")], "a/b") == hub_data.FETCHED
    assert hub_data.root_of([], "a/b") == hub_data.FETCHED


# ----------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("chunk", [2, 7, 1 << 20])
def test_a_json_list_is_read_piece_by_piece(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(rows, "CHUNK", chunk)
    values = [{"a": i, "b": "x" * i, "c": [1.5, None, {"d": "]},"}]} for i in range(9)]
    for indent in (None, 2):
        (tmp_path / "a.json").write_text("\n" + json.dumps(values, indent=indent) + "\n")
        found = list(rows.read(tmp_path / "a.json"))
        assert [row for _, row in found] == values
        assert found[3][0] == f"{tmp_path}/a.json: row 4"
    (tmp_path / "a.json").write_text("[]")
    assert list(rows.read(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1}', "expected one JSON list of rows, found dict"),
        ("no", "not JSON"),
        ('[{"a": 1}', "not JSON"),
        ('[{"a": 1} {"a": 2}]', "not JSON: expected , or ] after row 1"),
        ('[{"a": 1}, {"a"]', "not JSON"),
        ("", "not JSON"),
    ],
)
def test_a_broken_json_list_is_refused(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=f"a.json: {says}"):
        list(rows.read(tmp_path / "a.json"))


def test_a_row_has_one_digest_whatever_kind_of_file_it_is_in(tmp_path):
    values = [{"question": 'a, "b"?', "choices": 3, "note": None}, {"question": "é", "choices": 4, "note": "x"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    (tmp_path / "b.json").write_text(json.dumps(values))
    pd.DataFrame(values).to_parquet(tmp_path / "c.parquet")
    pd.DataFrame(values).to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "manifest.json").write_text("{}")
    files = rows.files_of(tmp_path)
    assert [path.name for path in files] == ["a.jsonl", "b.json", "c.parquet", "d.csv"]
    digests = [[rows.digest(row) for _, row in rows.read(path)] for path in files]
    assert digests == [[rows.digest(row) for row in values]] * 4
    with pytest.raises(InputError, match="ending .txt; allowed: .jsonl, .json, .parquet, .csv"):
        list(rows.read(tmp_path / "a.txt"))


# ----------------------------------------------------------------------------------- mixtures, in the hub's own schemas


def magicoder(i: int) -> dict:
    about = {"lang": "python", "raw_index": i, "index": i, "seed": "x = 1", "openai_fingerprint": "fp"}
    return about | {"problem": f"Write function number {i}.", "solution": f"```python\ndef f{i}(): ...\n```"}


def codealpaca(i: int) -> dict:
    return {"instruction": f"Sort list {i}.", "input": "[2, 1]" if i % 2 else "", "output": "sorted(x)"}


def metamathqa(i: int) -> dict:
    original = f"What is {i // 3} + 1?"  # three rewritings of each question
    return {
        "type": ("GSM_Rephrased", "GSM_SV", "GSM_FOBAR")[i % 3],
        "query": f"{original} Version {i % 3}.",
        "original_question": original,
        "response": f"It is {i // 3 + 1}. The answer is: {i // 3 + 1}",
    }


def openhermes(i: int) -> dict:
    unset = dict.fromkeys(("id", "idx", "title", "language", "model", "hash", "avatarUrl", "views", "topic"))
    turns = [
        {"from": "human", "value": f"Tell me about {i}.", "weight": None},
        {"from": "gpt", "value": "It is a number."},
    ]
    system = [{"from": "system", "value": "You are brief."}] if i % 2 else []
    return unset | {
        "source": "airoboros2.2",
        "category": "general",
        "system_prompt": None,
        "conversations": system + turns,
    }


HUB = {  # id -> (file as the repository has it, a row)
    "ise-uiuc/Magicoder-OSS-Instruct-75K": ("data-oss_instruct-decontaminated.jsonl", magicoder),
    "sahil2801/CodeAlpaca-20k": ("code_alpaca_20k.json", codealpaca),
    "meta-math/MetaMathQA": ("MetaMathQA-395K.json", metamathqa),
    "teknium/OpenHermes-2.5": ("openhermes2_5.json", openhermes),
}


def put(root: Path, dataset: str, values: list, name: str | None = None) -> None:
    path = root / dataset / (name or HUB[dataset][0])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(values).to_parquet(path)
        return
    lines = "".join(json.dumps(value) + "\n" for value in values)
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(values))


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_four_hub_data_sets_are_mixed_by_size_and_seed(tmp_path):
    for dataset, (_, make) in HUB.items():
        put(tmp_path / "hub", dataset, [make(i) for i in range(300)])
    sources = [{"kind": "hub", "dataset": dataset, "n": 20, "heldout": 6} for dataset in HUB]
    assert build_mixture(sources, 0, tmp_path / "a", datasets_dir=tmp_path / "hub") == {
        "train": 80,
        "validate": 24,
        "test": 24,
    }
    build_mixture(sources, 0, tmp_path / "b", datasets_dir=tmp_path / "hub")
    build_mixture(sources, 1, tmp_path / "c", datasets_dir=tmp_path / "hub")
    splits = {split: read(tmp_path / "a" / f"{split}.jsonl") for split in ("train", "validate", "test")}
    assert splits["train"] == read(tmp_path / "b/train.jsonl")
    assert splits["train"] != read(tmp_path / "c/train.jsonl")
    by_source = pd.Series([row["source"] for row in splits["train"]]).value_counts().to_dict()
    assert by_source == dict.fromkeys(
        ("Magicoder-OSS-Instruct-75K", "CodeAlpaca-20k", "MetaMathQA", "OpenHermes-2.5"), 20
    )
    groups = [{row["group"] for row in rows} for rows in splits.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    everything = {row["id"]: row for rows in splits.values() for row in rows}
    for name, row in everything.items():
        source, number = row["source"], int(name.rpartition("-")[2])
        dataset = next(dataset for dataset in HUB if dataset.endswith(source))
        raw, said = HUB[dataset][1](number), [message["content"] for message in row["messages"]]
        expected = {
            "problem": lambda raw: [raw["problem"], raw["solution"]],
            "instruction": lambda raw: ["\n\n".join(filter(None, (raw["instruction"], raw["input"]))), raw["output"]],
            "query": lambda raw: [raw["query"], raw["response"]],
            "conversations": lambda raw: [turn["value"] for turn in raw["conversations"]],
        }
        assert said == next(make for key, make in expected.items() if key in raw)(raw)


def test_parquet_and_rows_of_no_use(tmp_path, caplog):
    dataset = "teknium/OpenHermes-2.5"
    values = [openhermes(i) for i in range(40)]
    for i in (3, 9):
        values[i]["conversations"] = values[i]["conversations"][:-1]  # a question without an answer
    put(tmp_path, dataset, values, "data/train-00000.parquet")
    source = {"kind": "hub", "dataset": dataset, "heldout": 4}
    with caplog.at_level(logging.INFO, "colocate"):
        assert build_mixture([source], 0, tmp_path / "out", datasets_dir=tmp_path)["train"] == 30
    assert f"{dataset}: 2 of 40 rows left out; the first: " in caplog.text
    put(tmp_path, "a/b", [{"text": "no dialogue"}] * 4, "rows.jsonl")
    with pytest.raises(InputError, match="a/b: 4 of 4 rows are of no use; the first: .* fit no known schema"):
        build_mixture([{"kind": "hub", "dataset": "a/b"}], 0, tmp_path / "out", datasets_dir=tmp_path)


def test_a_large_data_set_is_not_held_in_memory(tmp_path, monkeypatch):
    """With `n`, only a random part, some times what is wanted, is made into rows; it is spread over the whole."""
    from colocate import instructions

    dataset, made = "meta-math/MetaMathQA", []
    put(tmp_path, dataset, [metamathqa(i) for i in range(3000)])
    as_row = instructions.as_row
    monkeypatch.setattr(instructions, "as_row", lambda *given: made.append(given[3]) or as_row(*given))
    source = {"kind": "hub", "dataset": dataset, "n": 20, "heldout": 5}
    build_mixture([source], 0, tmp_path / "out", datasets_dir=tmp_path)
    assert len(made) == 4 * (20 + 10)
    assert min(made) < 300
    assert max(made) > 2700


def test_a_hub_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no data set meta-math/MetaMathQA in .*; run the target `fetch`"):
        build_mixture([{"kind": "hub", "dataset": "meta-math/MetaMathQA"}], 0, tmp_path / "out", datasets_dir=tmp_path)


def test_only_files_that_match_are_read_where_a_data_set_has_other_splits(tmp_path):
    for split, first in (("train", 0), ("test", 100)):
        rows = [{"question": f"What is {n} plus {n}?", "answer": f"#### {2 * n}"} for n in range(first, first + 30)]
        place = tmp_path / f"openai/gsm8k/main/{split}-00000-of-00001.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "hub", "dataset": "openai/gsm8k", "files": "main/train*", "n": 20, "heldout": 5}
    assert build_mixture([source], 0, tmp_path / "out", datasets_dir=tmp_path)["train"] == 20
    for split in ("train", "validate", "test"):
        for line in (tmp_path / f"out/{split}.jsonl").read_text().splitlines():
            question, answer = (message["content"] for message in json.loads(line)["messages"])
            assert int(question.split()[2]) < 30
            assert answer == f"#### {2 * int(question.split()[2])}"
    with pytest.raises(InputError, match="no data file matches 'dev\\*'"):
        build_mixture([source | {"files": "dev*"}], 0, tmp_path / "out", datasets_dir=tmp_path)
