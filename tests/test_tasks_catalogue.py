"""The benchmarks of config/config.yaml: each names a task of lm-eval and its data, and runs offline on real data."""

import socket

import pytest
import yaml

from colocate.evaluation import definitions
from conftest import ROOT
from evaluating import real_datasets, run
from test_tasks_real import needs

CATALOGUE = yaml.safe_load((ROOT / "config/config.yaml").read_text())["benchmarks"]
HUB = {name: entry for name, entry in CATALOGUE.items() if "source" in entry}
NAMED = {  # the published benchmarks, in the catalogue under these names
    *("mmlu", "gpqa_main", "humaneval_plus", "humaneval", "math", "math_minerva", "math500", "math500_minerva"),
    *("mgsm", "mgsm_native_cot", "arc_challenge", "arc_easy", "gsm8k", "ifeval"),
}
FEW = {  # two tasks of a group, in place of all
    "mmlu": ["anatomy", "virology"],
    "math": ["algebra", "geometry"],
    "math_minerva": ["algebra"],
    "mgsm": ["de", "th"],
    "mgsm_native_cot": ["mgsm_native_cot_de"],
}


def test_the_published_benchmarks_are_in_the_catalogue():
    assert set(HUB) >= NAMED
    assert all(entry.get("private") for name, entry in HUB.items() if name.startswith("gpqa"))


@pytest.mark.parametrize("name", HUB)
def test_an_entry_names_tasks_of_lm_eval_on_that_data(name):
    found = definitions.find(HUB[name]["task"], None)
    assert found
    assert {entry.cfg["dataset_path"] for entry, _ in found} == {HUB[name]["source"]}


@pytest.mark.parametrize("name", [name for name, entry in HUB.items() if "gpqa" not in name and name != "ifeval"])
def test_an_entry_runs_on_real_data_without_network(tiny_llama, monkeypatch, name):
    """As it is in the catalogue, but for one item, few tokens, and few tasks of a group."""
    data = real_datasets()
    needs(HUB[name]["task"], HUB[name]["source"])
    reached = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: reached.append(address) or 1 / 0)
    entry = HUB[name] | {"limit": 1, "max_new_tokens": 4} | ({"subset": FEW[name]} if name in FEW else {})
    summary, items = run(tiny_llama, entry, datasets_dir=data)
    assert summary["status"] == "ok", summary.get("reason")
    assert summary["n"] == len(items) == len(FEW.get(name, "1"))
    assert not reached
    assert all(version not in ("", "None") for version in summary["version"].values())
    assert len(summary["prompt_hash"]) == len(summary["data_digest"]) == 16
    shots = HUB[name].get("num_fewshot")
    if shots is not None:
        assert set(summary["settings"]["num_fewshot"].values()) == {shots}
    assert summary["settings"]["seed"] == 1234
    assert items["gold_logprob"].lt(0).all()  # of the reference answer, where answers are written
    assert items["margin"].notna().all() == (summary["chance"] > 0)
    assert summary["near_chance"] in (True, False)
    if "humaneval" in name:
        assert summary["settings"]["sandbox"]["seconds"] >= 20
