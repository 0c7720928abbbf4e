"""`make suggest`: what is wrong with a model or data is said at once; a short study runs to its recommendation."""

import json
import subprocess
import sys

import pytest
import yaml

from colocate import config, suggest
from colocate.errors import InputError
from conftest import ROOT, Checkout


def rows(n: int) -> list[dict]:
    return [{"instruction": f"Add {i} and {i + 1}.", "output": f"The sum is {2 * i + 1}."} for i in range(n)]


def write(path, rows) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def project(monkeypatch):
    """The project's own folder as the current one, as `make suggest` has it."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (rows(7), r"mine\.jsonl has 7 rows; allowed: at least 8"),
        ([*rows(9), {"question": "?"}], r"mine\.jsonl:10: fields \['question'\] fit no known schema"),
        ([*rows(9), "{not json"], r"mine\.jsonl:10: not JSON"),
        (
            [*rows(2), {"instruction": "Add.", "output": ""}, *rows(9)],
            r"mine\.jsonl:3: field 'output': expected a text",
        ),
        (rows(1) * 12, r"sources\[0\].*12 rows in 1 groups"),
        ([], "no rows"),
    ],
)
def test_wrong_data_is_named_with_its_line(project, tmp_path, tiny_llama, data, said):
    with pytest.raises(InputError, match=said):
        suggest.prepare(str(tiny_llama), write(tmp_path / "mine.jsonl", data))


def test_a_missing_file_and_missing_arguments(project, tmp_path, tiny_llama):
    data = write(tmp_path / "mine.jsonl", rows(12))
    with pytest.raises(InputError, match=r"DATA: .*nothing\.jsonl: no such file"):
        suggest.prepare(str(tiny_llama), str(tmp_path / "nothing.jsonl"))
    with pytest.raises(InputError, match="MODEL is missing: make suggest MODEL="):
        suggest.prepare("", data)
    with pytest.raises(InputError, match="DATA is missing: make suggest MODEL="):
        suggest.prepare(str(tiny_llama), "")


def test_an_unknown_model_is_refused_with_what_is_allowed(project, copy, tmp_path):
    data = write(tmp_path / "mine.jsonl", rows(12))
    with pytest.raises(InputError, match=r"MODEL: found 'smollm3'; allowed: a folder .* a name out of .*smollm2-135m"):
        suggest.prepare("smollm3", data)
    with pytest.raises(InputError, match="MODEL: found 'hf:nobody'; allowed: hf:ORG/NAME"):
        suggest.prepare("hf:nobody", data)
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json"):
        suggest.prepare(str(copy), data)


def test_nothing_is_written_or_run_for_a_wrong_input(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("models: {}\n")
    command = [sys.executable, "-m", "colocate.suggest", "--model", "x", "--data", "y.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "suggest: DATA: y.jsonl: no such file\n"
    assert [path.name for path in tmp_path.iterdir()] == ["config"]


def merged(overlay: dict) -> dict:
    from snakemake.utils import update_config

    study = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(study, overlay)
    return config.complete(study)


def test_the_overlay_is_a_right_config_of_the_users_model_and_data(project, tmp_path, tiny_llama):
    source = suggest.mixture_source(write(tmp_path / "My Data.jsonl", rows(12)))
    assert source["heldout"] == 3
    assert suggest.mixture_source(write(tmp_path / "many.jsonl", rows(400)))["heldout"] == 40
    name, entry = suggest.model_entry(str(tiny_llama), {})
    study = merged(suggest.overlay(name, entry, source))
    assert study["study"] == f"suggest-{name}-my-data"
    assert study["mixture"]["sources"] == [source]
    assert study["select"]["models"] == [name]
    assert study["models"][name]["geometry"]["n_layers"] == 4
    assert study["models"][name]["source"] == f"path:{tiny_llama}"
    arms = {arm: study["arms"][arm] for arm in study["select"]["arms"]}
    assert {"base", "standard_lora", "mid_block", "early", "late"} < set(arms)
    assert not any("garfa" in arm for arm in arms.values())
    matched = {arm["budget"] for arm in arms.values() if "budget" in arm}
    assert matched == {"match lora_sensitive"}


def test_a_model_of_the_catalogue_keeps_its_entry_and_its_name_its_own(project, tmp_path, copy):
    source = suggest.mixture_source(write(tmp_path / "mine.jsonl", rows(12)))
    catalogue = yaml.safe_load((ROOT / "config/config.yaml").read_text())["models"]
    name, entry = suggest.model_entry("smollm2-135m", catalogue)
    assert merged(suggest.overlay(name, entry, source))["models"] == config.complete(merged({}))["models"]
    assert suggest.model_entry(str(copy), {copy.name: {}})[0] == f"my-{copy.name}"


def test_a_hub_model_is_pinned_to_its_commit(monkeypatch, tiny_llama):
    import huggingface_hub

    class Api:
        def model_info(self, repo, revision=None):
            if repo != "org/Tiny-1B":
                raise OSError("404")
            return type("Info", (), {"sha": revision or "c0ffee"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, file, revision: str(tiny_llama / "config.json")
    )
    name, entry = suggest.model_entry("hf:org/Tiny-1B", {})
    assert (name, entry["source"], entry["revision"]) == ("tiny-1b", "hf:org/Tiny-1B", "c0ffee")
    assert entry["geometry"] == suggest.model_entry(str(tiny_llama), {})[1]["geometry"]
    assert suggest.model_entry("hf:org/Tiny-1B@abc", {})[1]["revision"] == "abc"
    with pytest.raises(InputError, match="MODEL: hf:org/other: not found or not reachable: OSError: 404"):
        suggest.model_entry("hf:org/other", {})


@pytest.mark.slow
def test_a_model_and_data_go_to_a_recommendation(tiny_llama, tmp_path):
    checkout = Checkout(tmp_path / "checkout")
    data = write(tmp_path / "mine.jsonl", rows(60))
    command = [sys.executable, "-m", "colocate.suggest", "--model", str(tiny_llama), "--data", data, "--cores", "2"]
    arms = ["base", "lora_sensitive", "standard_lora", "lora_random"]
    checkout.overlay("shorter", {"seeds": [0], "select": {"arms": arms}, "training": {"max_tokens": 4000}})
    done = subprocess.run(
        [*command, "config/shorter.yaml"],
        cwd=checkout.folder,
        env=checkout.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    (answer,) = (checkout.folder / "results").glob("suggest-*-mine/*/statistics/recommendation.json")
    advice = json.loads(answer.read_text())
    assert advice["text"] in done.stdout
    assert str(answer.relative_to(checkout.folder)) in done.stdout
    names = {row["arm"] for row in advice["candidates"]}
    assert names == {"lora_sensitive", "standard_lora"}  # random layers are what they are held against
