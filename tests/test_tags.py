"""No tag of an overlay claims to know more of a paper than data/published/numbers.csv does."""

import csv
import re

import pytest

from conftest import ROOT

TAGS = ["ours", "second-hand", "stated"]  # from what is not known of a paper to what was read in it
SETS = ("Magicoder-OSS-Instruct-75K", "CodeAlpaca-20K", "MetaMathQA", "OpenHermes-2.5")
SOURCES = {f"- {{kind: hub, dataset: [^,]*{name}": ("training examples", name) for name in SETS}
SCORES = {"humaneval_plus": "HumanEval+", "gpqa_main": "GPQA", "mgsm": "MGSM", "math": "MATH"}
SCORES |= {"arc_challenge": "ARC", "mmlu": "MMLU"}
# overlay, paper: the line's first words and the number (quantity, setting) that it takes over
LINES = {
    ("llama31-8b", "rao2026"): {
        "- sensitivity_core": ("pairs", None),
        "# The 2 x 2 grid": ("ablation", None),
        "published_s:": ("sensitive layers", "first"),
        "published_r:": ("RoPE-influential layers", "first"),
        "sensitive:": ("sensitive layers", "last"),
        "positional:": ("RoPE-influential layers", "last"),
        "training:": ("LoRA rank", None),
        "lr_garfa:": ("learning rates", None),
        **{f"- {name}": ("accuracy", f"co-located, {score}") for name, score in SCORES.items()},
        **SOURCES,
    },
    ("hub-mixture", "rao2026"): SOURCES,
    ("olmo2", "zhao2026"): {
        r"sources: \[": ("training examples", None),
        "epochs:": ("epochs", None),
        "lora:": ("LoRA dropout", None),
        "# Rank 64 and alpha 128": ("lora_alpha", None),
    },
}
CASES = [(*place, line, *known) for place, lines in LINES.items() for line, known in lines.items()]


def known_of(study: str, quantity: str, setting: str | None) -> str:
    """The strongest tag that a number allows: what was derived was not read in the paper."""
    with (ROOT / "data/published/numbers.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["study"], row["quantity"]) == (study, quantity)]
    (row,) = [row for row in rows if setting in (None, row["setting"])]
    how = row["known"].split(",")[0]
    return "ours" if "unknown" in (row["value"], how) else "second-hand" if how == "derived" else how


def tags(line: str) -> list[str]:
    return re.findall(rf"\[({'|'.join(TAGS)})[],:;]", line)


@pytest.mark.parametrize(("overlay", "study", "line", "quantity", "setting"), CASES)
def test_a_tag_claims_no_more_than_is_known(overlay, study, line, quantity, setting):
    text = (ROOT / f"config/{overlay}.yaml").read_text(encoding="utf-8")
    (found,) = [one for one in text.splitlines() if re.match(rf"\s*{line}", one, flags=re.IGNORECASE)]
    assert tags(found), f"{found}: no tag"
    assert max(map(TAGS.index, tags(found))) <= TAGS.index(known_of(study, quantity, setting)), found


def test_what_no_number_stands_for_is_not_said_to_be_read_in_the_paper():
    """Every other line of these overlays: [stated] is only where a number above says so."""
    for (overlay, _), lines in LINES.items():
        text = (ROOT / f"config/{overlay}.yaml").read_text(encoding="utf-8").splitlines()
        rest = [one for one in text if not any(re.match(rf"\s*{line}", one, flags=re.IGNORECASE) for line in lines)]
        claimed = [one.strip() for one in rest if "stated" in tags(one) and not one.startswith("#")]
        assert claimed in ([], ['benchmarks:                   # "six" [stated]; these, by the scores that are known'])
