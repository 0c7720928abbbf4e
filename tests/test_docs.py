"""The documentation says what is there: links, names, generated pages, configurations; commands: test_commands.py."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from colocate import config, config_schema, full_tuning, instructions, pairs
from colocate.profiles import METRICS
from commands import fences, without_fences
from conftest import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "config/*.md", "benchmarks/*.md", "data/*/*.md")
    for path in ROOT.glob(pattern)
)
OURS = [page for page in PAGES if page.startswith("docs/") or "/" not in page]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [text for named, text in fences(read(page)) if named == language]


def prose(page: str) -> str:
    return without_fences(read(page))


# ---- links


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.M
    )
    plain = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.resolve())):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", read("docs/README.md")))
    assert linked >= {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


# ---- names


def test_pages_that_are_written_by_a_program_are_up_to_date(tmp_path):
    done = subprocess.run(
        [sys.executable, "docs/make_reference.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in ("rules.md", "metrics.md"):
        assert (tmp_path / page).read_text() == read(f"docs/{page}"), "run: python docs/make_reference.py"


def test_no_metric_is_missing():
    assert sorted(re.findall(r"^### `(\w+)`$", read("docs/metrics.md"), re.MULTILINE)) == sorted(METRICS)


def test_every_file_that_a_rule_writes_is_described():
    described = read("docs/files.md")
    written = set(re.findall(r"`((?:results|reports|resources)/[^`]+)`", read("docs/rules.md")))
    names = {Path(path).name.replace("smollm2", "STUDY") for path in written}
    names = {re.sub(r"^\{\w+\}", "", name) for name in names if not name.endswith(".run.json")}
    assert len(names) > 30
    # A name such as seed{seed}.json stands as seedN.json.
    assert sorted(name for name in names if re.sub(r"\{\w+\}", "N", name) not in described) == []


@functools.cache
def known_keys() -> set[str]:
    """Every path of the schema, with NAME for a name of the user's."""
    schema = config_schema.load()

    def walk(part: dict, prefix: str) -> set[str]:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        found = {prefix} if prefix else set()
        for key, inner in part.get("properties", {}).items():
            found |= walk(inner, f"{prefix}.{key}" if prefix else key)
        if isinstance(part.get("additionalProperties"), dict):
            found |= walk(part["additionalProperties"], f"{prefix}.NAME")
        return found | (walk(part["items"], prefix) if isinstance(part.get("items"), dict) else set())

    return walk(schema, "")


@pytest.mark.parametrize("page", OURS)
def test_keys_of_the_config_that_are_named_exist(page):
    known = known_keys()
    tops = {key for key in known if "." not in key}
    named = re.findall(r"`((?:[a-z_]+)(?:\.[A-Za-z_]+)+)`", prose(page))
    files = (".csv", ".json", ".yaml", ".md", ".py", ".jsonl", ".parquet", ".html", ".txt")
    dotted = [name for name in named if name.split(".")[0] in tops and not name.endswith(files)]
    # A name of an overlay stands for any: profiles.probe is profiles.NAME.
    catalogues = {key.split(".")[0] for key in known if key.endswith(".NAME")}
    general = [re.sub(rf"^({'|'.join(catalogues)})\.\w+", r"\1.NAME", name) for name in dotted]
    assert [name for name in general if name not in known] == []


@pytest.mark.parametrize("page", OURS)
def test_rules_and_modules_that_are_named_exist(page):
    rules = set(re.findall(r"^\| `(\w+)` \|", read("docs/rules.md"), re.MULTILINE))
    assert set(re.findall(r"rules? `(\w+)`", prose(page))) <= rules
    for module in set(re.findall(r"`(colocate(?:\.\w+)+)`", prose(page))):
        parts = module.split(".")
        places = [ROOT / "src" / Path(*parts[:end]) for end in (len(parts), len(parts) - 1)]
        assert any(place.with_suffix(".py").exists() or (place / "__init__.py").exists() for place in places), module


def test_every_rule_that_chooses_layers_is_described():
    table = re.findall(r"^\| (`.+?`) \|", read("docs/add-layer-set-rule.md"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(table))) == set(config.SET_RULES)


# ---- examples


@pytest.mark.parametrize("page", OURS)
def test_configurations_are_right(page):
    study = yaml.safe_load(read("config/config.yaml"))
    for text in blocks(page, "yaml"):
        if "!function" in text or not set(yaml.safe_load(text)) & set(study):
            continue
        merged = json.loads(json.dumps(study))
        update_config(merged, yaml.safe_load(text))
        config.complete(merged)


def test_rows_of_the_pages_are_read(tmp_path):
    conversation, pair = map(json.loads, blocks("docs/own-data.md", "json"))
    assert instructions.as_row(conversation, "row", "mine", 0)["group"] == "sums"
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    assert [row.id for row in pairs.read_pairs(tmp_path / "pairs.jsonl")] == ["capital-1"]


def test_the_metric_of_the_page_computes(tiny_llama):
    from colocate import models
    from test_profiles_answers import PAIRS

    [text] = blocks("docs/add-metric.md", "python")
    module: dict = {}
    exec(compile(text, "docs/add-metric.md", "exec"), module)
    model = models.load_model(tiny_llama, "float32", "cpu")
    data = {"pairs": list(PAIRS), "paraphrases": []}
    found = module["compute"](model, models.load_tokenizer(tiny_llama), {"pool": "answer"}, data)
    assert list(found.profile) == ["layer", "value", "ci_low", "ci_high", "n"]
    assert len(found.profile) == 4
    assert set(found.variants.variant) == {"all", "skip_first", "answer", "unit"}
    means = found.items.groupby("layer").value.mean()
    assert means.tolist() == pytest.approx(found.profile.value.tolist())


def test_the_benchmark_of_the_page_loads(tmp_path):
    from colocate.evaluation import tasks

    folder = tmp_path / "my_quiz"
    folder.mkdir()
    page = "docs/add-benchmark.md"
    [task] = [text for text in blocks(page, "yaml") if "!function" in text]
    [loader] = blocks(page, "python")
    [row] = blocks(page, "json")
    (folder / "my_quiz.yaml").write_text(task)
    (folder / "utils.py").write_text(loader)
    for split in ("test", "validation"):
        (folder / f"{split}.jsonl").write_text(row)
    entry = {"task": str(folder / "my_quiz.yaml"), "source": "builtin"}
    places = {"benchmarks_dir": ROOT / "data/benchmarks", "datasets_dir": tmp_path, "cache_dir": tmp_path / "cache"}
    [loaded] = tasks.load(entry, seed=0, **places).values()
    assert [document["id"] for document in loaded.eval_docs] == ["quiz-1"]


def test_the_overlay_of_the_tutorial_adds_its_seed_and_its_arm(checkout):
    [overlay] = blocks("docs/first-study.md", "yaml")
    checkout.overlay("mine", yaml.safe_load(overlay))
    planned = re.findall(r"^ +train_arm +(\w+) seed (\d)", checkout.snakemake("--dry-run").stdout, re.MULTILINE)
    assert {seed for _, seed in planned} == {"0", "1", "2"}
    assert {arm for arm, _ in planned} == {"colocated", "standard_lora", "mid_block", "last_fifth"}


# ---- numbers that stand in several places


def test_the_memory_of_full_fine_tuning_is_the_same_everywhere():
    """Bytes a parameter: weight, float32 copy of a shorter one, gradient and Adam's two moments in float32."""
    bfloat16, float32 = 2 + 4 + 4 + 8, 4 + 4 + 8
    assert f"{bfloat16} bytes of GPU memory a parameter in bfloat16, {float32} in float32" in read("config/README.md")
    assert f"{bfloat16} bytes a parameter in bfloat16, {float32} in float32" in read("docs/models.md")
    assert f"in all {bfloat16}; float32 4 + 4 + 8 = {float32}" in full_tuning.__doc__


@pytest.mark.parametrize("page", PAGES)
def test_extras_are_installed_by_make(page):
    """The package is on no index: pip would not find it."""
    assert not re.search(r"pip install\s+['\"]?colocate", read(page))
