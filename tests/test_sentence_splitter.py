"""IFEval's sentence splitter: it comes with the data, is found, and is asked for before a study's first job."""

import json
from pathlib import Path

import nltk
import pytest
import yaml

import hub
from colocate import config, hub_data, sentence_splitter, study_files
from colocate.errors import InputError
from colocate.evaluation import definitions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """A machine without it, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NLTK_DATA", "")
    monkeypatch.setattr(sentence_splitter.sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(nltk.data, "path", [])
    if sentence_splitter.present():
        pytest.skip("it is installed for the whole machine, below /usr")


def put(folder: Path) -> None:
    english = folder / "tokenizers/punkt_tab/english"
    english.mkdir(parents=True)
    (english / "abbrev_types.txt").write_text("dr\n")


def test_without_it_the_task_is_refused_with_what_to_do():
    ((entry, _),) = definitions.find("ifeval", None)
    with pytest.raises(InputError, match=r"IFEval needs .*punkt_tab.*python -m nltk.downloader -d resources/nltk_data"):
        definitions.build(entry, {}, 0)


@pytest.mark.parametrize("place", ["resources/nltk_data", "home/nltk_data", "named", "venv/nltk_data"])
def test_it_is_looked_for_where_nltk_looks_and_in_the_project(tmp_path, monkeypatch, place):
    monkeypatch.setenv("NLTK_DATA", f"/nowhere:{tmp_path / 'named'}")
    assert not sentence_splitter.present()
    put(tmp_path / place)
    assert sentence_splitter.present()


def test_it_is_fetched_whole_and_found_by_nltk(monkeypatch):
    def download(name, download_dir, **_):
        assert name == "punkt_tab"
        put(Path(download_dir))
        return True

    monkeypatch.setattr(nltk, "download", download)
    sentence_splitter.fetch()
    assert sentence_splitter.present()
    sentence_splitter.load()
    assert [path.name for path in sentence_splitter.FOLDER.iterdir()] == ["tokenizers"]


def test_a_download_that_fails_leaves_nothing_under_its_name(monkeypatch):
    def download(name, download_dir, **_):
        put(Path(download_dir) / "half")
        raise ValueError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr(nltk, "download", download)
    with pytest.raises(InputError, match="punkt_tab of NLTK, for IFEval, could not be downloaded: .*Name or service"):
        sentence_splitter.fetch()
    assert not sentence_splitter.present()


NLTK = """
from pathlib import Path
def download(name, download_dir, **_):
    (Path(download_dir) / "tokenizers" / name).mkdir(parents=True)
"""


@pytest.mark.parametrize("dataset", ["google/IFEval", "openai/gsm8k"])
def test_it_comes_with_the_data_that_need_it_and_with_no_other(tmp_path, dataset):
    repository = tmp_path / "hub"
    repository.mkdir()
    (repository / "train.jsonl").write_text('{"prompt": "Do as you are told."}\n')
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub/nltk.py").write_text(NLTK)
    settings = json.dumps({"source": dataset, "revision": None})
    options = ["--manifest", f"resources/datasets/{dataset}/manifest.json", "--run", "run.json", "--settings", settings]
    script = str(ROOT / "workflow/scripts/fetch_benchmark.py")
    code = f"import runpy, sys; sys.argv = {[script, *options]}; runpy.run_path({script!r}, run_name='__main__')"
    with hub.serve(repository, dataset, "datasets") as server:
        done = hub.client(server, tmp_path / "home", code, PYTHONPATH=str(tmp_path / "stub"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / options[1]).is_file()
    assert (sentence_splitter.FOLDER / "tokenizers/punkt_tab").is_dir() == (dataset == "google/IFEval")


@pytest.fixture
def study(monkeypatch) -> dict:
    monkeypatch.setattr(study_files, "_lm_eval_tasks", set)
    study = config.complete(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")))
    return study | {"select": study["select"] | {"benchmarks": ["ifeval"]}}


def named(study: dict, **where) -> list[str]:
    return [key for key, said in study_files.problems(study, **where) if sentence_splitter.MISSING in said]


def test_a_study_that_needs_it_says_so_before_its_first_job(study, tmp_path):
    assert named(study) == []  # the data are still to be fetched, and it comes with them
    assert named(study, mirror=str(tmp_path)) == ["benchmarks.ifeval.task"]
    assert named(study, mirror=str(tmp_path), planning=True) == []
    fetched = hub_data.FETCHED / "google/IFEval"
    fetched.mkdir(parents=True)
    (fetched / "manifest.json").write_text("{}")
    assert named(study) == ["benchmarks.ifeval.task"]
    put(sentence_splitter.FOLDER)
    assert named(study) == named(study, mirror=str(tmp_path)) == []
