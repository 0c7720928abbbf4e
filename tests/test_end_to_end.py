"""The whole path: a model folder in, a report out, on a tiny random model and on the real SmolLM2."""

import json
import shutil
import zipfile

import pandas as pd
import pytest

from browser import needs_chromium, requests, visit, wait_for
from colocate import gain
from conftest import Checkout

ARMS = ["base", "colocated", "positional_both", "mid_block"]
BENCHMARKS = ["mini_arc", "mini_math"]
STATISTICS = [
    "correlations.csv",
    "specifications.csv",
    "specification_curve.json",
    "selection.csv",
    "stability.csv",
    "domains.csv",
    "twins.csv",
    "regret.csv",
    "contrasts.csv",
    "forgetting.csv",
    "power.csv",
    "claims.csv",
    "recommendation.json",
]


def small_study(model: str, entry: dict) -> dict:
    """The small study of config/ci.yaml, for another model, with its own name."""
    return {"study": "tiny", "select": {"models": [model]}, "models": {model: entry}}


@pytest.fixture(scope="module")
def tiny_study(tiny_llama, tmp_path_factory) -> Checkout:
    """config/ci.yaml run to its report on a tiny random model."""
    from tiny import GEOMETRY

    checkout = Checkout(tmp_path_factory.mktemp("tiny") / "checkout")
    checkout.configfiles.append("config/ci.yaml")
    study = small_study("tiny", {"source": f"path:{tiny_llama}", "geometry": GEOMETRY, "dtype": "float32"})
    study["layer_sets"] = {"sensitive": {"top": 1}, "positional": {"top": 1}, "middle": {"segments": "01110"}}
    study["training"] = {"max_length": 1024}
    checkout.overlay("tiny", study)
    checkout.printed = checkout.snakemake().stdout
    return checkout


def copy_of(study: Checkout, folder) -> Checkout:
    """A finished study in another folder, with Snakemake's memory of it."""
    checkout = Checkout(folder)
    shutil.copytree(study.folder, checkout.folder, dirs_exist_ok=True)
    checkout.configfiles = list(study.configfiles)
    return checkout


def results(checkout: Checkout, study: str, model: str):
    return checkout.folder / "results" / study / model


def check_study(checkout: Checkout, study: str, model: str, n_layers: int) -> None:
    """Every file of the design, with its columns, and numbers that can be right."""
    folder = results(checkout, study, model)
    for profile in ("sensitivity_all", "rope_output"):
        table = pd.read_csv(folder / f"profiles/{profile}.csv")
        assert list(table.columns) == ["layer", "value", "ci_low", "ci_high", "n"]
        assert table["layer"].tolist() == list(range(n_layers))
        assert (table["value"] > 0).all()
        items = pd.read_parquet(folder / f"profiles/{profile}.items.parquet")
        assert {"item", "layer", "value"} <= set(items.columns)
        variants = pd.read_parquet(folder / f"profiles/{profile}.variants.parquet")
        assert list(variants.columns) == ["variant", "item", "layer", "kv_head", "value"]
    for name in ("sensitive", "positional", "middle"):
        chosen = json.loads((folder / f"layer_sets/{name}.json").read_text())
        assert set(chosen) == {"name", "rule", "layers"}
    for arm in ARMS[1:]:
        resolved = json.loads((folder / f"arms/{arm}/seed0.json").read_text())
        assert resolved["lora_layers"]
        adapter = folder / f"adapters/{arm}/seed0"
        manifest = json.loads((adapter / "manifest.json").read_text())
        assert "adapter_model.safetensors" in manifest["sha256"]
        log = pd.read_csv(adapter / "training_log.csv")
        assert {"step", "epoch", "loss", "lr_lora", "lr_garfa", "grad_norm", "tokens"} <= set(log.columns)
        alphas = pd.read_csv(adapter / "alphas.csv")
        assert list(alphas.columns) == ["layer", "kv_head", "alpha"]
        assert sorted(set(alphas["layer"])) == resolved["garfa_layers"]
        assert (folder / f"arm_profiles/{arm}/seed0/linear_cka.csv").exists()
    for arm in ARMS:
        for benchmark in BENCHMARKS:
            summary = json.loads((folder / f"evaluations/{arm}/seed0/{benchmark}.json").read_text())
            assert {"accuracy", "stderr", "n", "groups", "gold_logprob", "margin"} <= set(summary)
            assert summary["n"] == 8
            items = pd.read_parquet(folder / f"evaluations/{arm}/seed0/{benchmark}.items.parquet")
            assert len(items) == 8
            assert items["gold_logprob"].lt(0).all()
    contrasts = pd.read_csv(folder / "statistics/contrasts.csv")
    wanted = "arm_a arm_b benchmark outcome difference ci_low ci_high p p_adjusted family n_items n_seeds".split()
    assert list(contrasts.columns)[: len(wanted)] == wanted
    assert {"accuracy", "gold_logprob", "heldout_loss"} <= set(contrasts["outcome"])
    forgetting = pd.read_csv(folder / "statistics/forgetting.csv")
    assert set(forgetting["benchmark"]) == {*BENCHMARKS, "neutral_kl"}
    assert set(forgetting["arm"]) == set(ARMS) - {"base"}
    drift = forgetting.loc[forgetting["benchmark"] == "neutral_kl", "difference"]
    assert (drift > 0).all()
    claims = pd.read_csv(folder / "statistics/claims.csv")
    wanted = "claim scope published measured ci_low ci_high threshold verdict why".split()
    assert list(claims.columns)[: len(wanted)] == wanted
    assert set(claims["verdict"]) <= {
        *("reproduced", "contradicted", "inconclusive", "not_tested"),
        *("holds_here", "does_not_hold_here", "cannot_tell"),
        *("reversed", "absent", "smaller"),
    }
    direct = claims[claims["scope"].str.startswith("direct")]
    assert set(direct["verdict"]) == {"not_tested"}, "a small model says nothing directly about Llama 3.1 8B"
    for name in STATISTICS:
        assert (folder / "statistics" / name).stat().st_size > 0
    report = (checkout.folder / f"reports/{study}.html").read_text()
    assert model in report
    assert "mini" in report
    assert len(list((folder / "figures").glob("*.svg"))) >= 5
    compute = pd.read_csv(checkout.folder / f"results/{study}/compute.csv")
    unknown = compute.loc[compute["seconds"].isna(), "rule"]
    assert set(unknown) <= {"fetch_model"}  # where the downloads were put there
    assert (compute["seconds"].dropna() > 0).all()
    assert (compute["rule"] == "train_arm").sum() == len(ARMS) - 1
    assert (compute["rule"] == "evaluate_arm").sum() == len(ARMS) * len(BENCHMARKS)
    assert (compute["rule"] == "measure_drift").sum() == len(ARMS) - 1
    assert not (checkout.folder / "scratch" / study / model / "colocated").exists() or not any(
        (checkout.folder / "scratch" / study / model / "colocated" / "seed0").glob("*")
    )


@needs_chromium
def test_the_provenance_annex_opens_with_the_page_of_the_study(tiny_study, chromium, tmp_path):
    """Snakemake's own report, made without a network after the run, read in a browser from disk."""
    made = tiny_study.folder / "reports/tiny-provenance.zip"
    tiny_study.snakemake("--report", str(made))
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path)
    visit(chromium, tmp_path / "tiny-provenance/report.html")
    address = wait_for(chromium, "const page = document.querySelector('iframe'); return page && page.src")
    assert address.endswith("/tiny.html")
    assert requests(chromium) == []
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
    menu = chromium.execute_script("return Object.keys(categories).sort((a, b) => a.localeCompare(b))")
    assert menu == ["1. The report", "2. Layer profiles", "3. Statistics", "4. Figures", "5. The study"]
    shown = chromium.execute_script("return Object.values(results).map(one => [one.filename, one.caption, one.labels])")
    assert all(caption and labels for _, caption, labels in shown)
    assert {"claims.csv", "contrasts.csv", "compute.csv", "config.yaml"} <= {name for name, *_ in shown}
    assert 'href="tiny-provenance.zip"' in (tiny_study.folder / "reports/tiny.html").read_text()


def test_the_run_is_described_as_a_crate(tiny_study):
    from rocrate.rocrate import ROCrate

    crate = ROCrate(tiny_study.folder / "reports/tiny-crate.zip")
    [action] = crate.get_by_type("CreateAction")
    results = {entity.id for entity in action["result"]}
    assert {"reports/tiny.html", "results/tiny/compute.csv", "results/tiny/tiny/statistics/claims.csv"} <= results
    read = {entity.id for entity in action["object"]}
    assert {"data/pairs/tasks.jsonl", "resources/models/tiny/manifest.json"} <= read
    parts = {entity.id for entity in crate.mainEntity["hasPart"]}
    assert {"workflow/rules/train.smk", "profiles/slurm/config.yaml"} <= parts
    assert action["startTime"] < action["endTime"]


@pytest.mark.slow
def test_a_tiny_model_goes_all_the_way(tiny_study):
    check_study(tiny_study, "tiny", "tiny", n_layers=4)


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(tiny_study):
    done = tiny_study.snakemake()
    assert "nothing to" in done.stdout.lower()
    assert "tiny.html" in done.stdout


@pytest.mark.slow
def test_what_a_user_sees(tiny_study):
    """Before: what will run. During: rule, arm, seed, done of total. After: the report and the findings."""
    printed = tiny_study.printed
    assert "train_arm" in printed
    assert "colocated" in printed
    assert "reports/tiny.html" in printed
    findings = json.loads((results(tiny_study, "tiny", "tiny") / "statistics/findings.json").read_text())
    assert len(findings) >= 3
    for finding in findings[:3]:
        assert finding[:40] in " ".join(printed.split())


@pytest.mark.slow
def test_a_failed_job_says_which_why_and_where(tiny_study, tmp_path):
    """A damaged adapter: the evaluation that reads it fails, by name, and the finished results stay."""
    checkout = copy_of(tiny_study, tmp_path / "checkout")
    folder = results(checkout, "tiny", "tiny")
    adapter = folder / "adapters/colocated/seed0/adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:100])
    for path in (folder / "evaluations/colocated/seed0").glob("mini_arc*"):
        path.unlink()
    done = checkout.snakemake("evaluate", check=False)
    assert done.returncode != 0
    assert "evaluate_arm" in done.stdout
    assert "adapter_model.safetensors" in done.stdout
    assert "logs/tiny/evaluate_arm/tiny/colocated/seed0/mini_arc.log" in done.stdout
    assert (folder / "evaluations/colocated/seed0/mini_math.json").exists()


@pytest.mark.slow
def test_layer_gain_and_arms_made_from_it(tiny_study, tmp_path):
    """Trainings on single layers, on all but one and on blocks, as profiles, and an arm made from one of them."""
    checkout = copy_of(tiny_study, tmp_path / "checkout")
    arms = {"gainful": {"lora": "gaining"}, "elsewhere": {"lora": "other"}}
    sets = {"gaining": {"top": 2, "by": "layer_gain"}, "other": {"minus": ["everywhere", "gaining"]}}
    select = {"layer_gain": ["alone", "without", "block"], "arms": ["base", "colocated", "gainful", "elsewhere"]}
    study = {"select": select, "arms": arms, "layer_sets": sets, "statistics": {"primary_against": []}}
    checkout.overlay("gains", study | {"gain": {"max_tokens": 2000}})
    checkout.snakemake("train", "profiles")
    folder = results(checkout, "tiny", "tiny")
    gains = {name: pd.read_csv(folder / f"profiles/{name}.csv") for name in gain.PROFILES.values()}
    for table in gains.values():
        assert table["layer"].tolist() == [0, 1, 2, 3]
        assert table["value"].notna().all()
    records = {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("layer_gain_without/*/seed0.json")
    }
    assert records["layerall"]["layers"] == [0, 1, 2, 3]
    assert records["layer1"]["layers"] == [0, 2, 3]
    lost = records["layer1"]["loss"] - records["layerall"]["loss"]
    assert gains["layer_gain_without"]["value"][1] == pytest.approx(lost)
    best = sorted(gains["layer_gain"].sort_values("value")["layer"].tail(2).tolist())
    assert json.loads((folder / "arms/gainful/seed0.json").read_text())["lora_layers"] == best
    rest = json.loads((folder / "arms/elsewhere/seed0.json").read_text())["lora_layers"]
    assert sorted(best + rest) == [0, 1, 2, 3]
    # What the first study had trained is not trained again.
    colocated = [path.stat().st_mtime for path in (folder / "adapters/colocated/seed0").glob("*")]
    before = results(tiny_study, "tiny", "tiny") / "adapters/colocated/seed0"
    assert colocated == [path.stat().st_mtime for path in before.glob("*")]


@pytest.mark.slow
def test_tuned_rates_twins_made_pairs_and_a_released_fine_tune(tiny_study, tmp_path):
    """What is off by default, in one study: each leaves its file, and what reads it gets it."""
    from tiny import GEOMETRY, make_model

    checkout = copy_of(tiny_study, tmp_path / "checkout")
    released = {"source": f"path:{make_model(tmp_path / 'released', seed=1)}", "geometry": GEOMETRY, "dtype": "float32"}
    arms = ["base", "colocated", "temperature_sensitive"]
    checkout.overlay(
        "more",
        {
            "models": {"tiny": {"released": ["released_tiny"]}, "released_tiny": released},
            "select": {
                "profiles": ["sensitivity_all", "rope_output", "sensitivity_made", "gradient_norm", "input_output_cka"],
                "arms": arms,
                "arm_profiles": ["weight_change"],
            },
            "profiles": {"gradient_norm": {"max_examples": 4}},
            "pairs": {"made": [{"kind": "benchmark", "benchmark": "mini_arc", "n": 12}]},
            "twins": {"random": 1, "shuffled": 1},
            "training": {"tuning": {"lr_lora": [1e-4, 1e-3, 1e-2], "max_tokens": 1500}},
            "statistics": {"primary_against": []},
        },
    )
    checkout.snakemake("profiles", "train", "statistics")
    folder = results(checkout, "tiny", "tiny")
    resolved = {arm: json.loads((folder / f"arms/{arm}/seed0.json").read_text()) for arm in arms[1:]}
    tuning = resolved["colocated"]["tuning"]
    losses = [one["loss"] for one in tuning["grid"]]
    assert [one["lr_lora"] for one in tuning["grid"]] == [1e-4, 1e-3, 1e-2]
    assert losses[tuning["chosen"]] == min(loss for loss in losses if loss is not None)
    assert resolved["colocated"]["lr_lora"] == tuning["grid"][tuning["chosen"]]["lr_lora"]
    assert tuning["at_edge"] == (["lr_lora"] if tuning["chosen"] in (0, 2) else [])
    assert resolved["temperature_sensitive"]["tuning"] is None  # its rate is lr_garfa, of which no list is given
    assert resolved["temperature_sensitive"]["n_trainable"] == 2
    for path in (
        "random0/sensitivity_all",
        "random0/rope_output",
        "shuffled0/sensitivity_all",
        "shuffled0/rope_output",
    ):
        assert pd.read_csv(folder / f"twins/{path}.csv")["layer"].tolist() == [0, 1, 2, 3]
    made = [json.loads(line) for line in (folder / "pairs/made.jsonl").read_text().splitlines()]
    items = pd.read_parquet(folder / "profiles/sensitivity_made.items.parquet")
    assert set(items["item"]) == {pair["id"] for pair in made}
    assert (pd.read_csv(folder / "profiles/gradient_norm.csv")["n"] == 4).all()
    assert pd.read_parquet(folder / "profiles/input_output_cka.items.parquet").empty  # a metric without items
    changed = pd.read_csv(folder / "arm_profiles/released-released_tiny/seed0/weight_change.csv")
    assert (changed["value"] > 0.1).all()  # other random weights
    rules = {json.loads(path.read_text())["rule"] for path in folder.rglob("*.run.json")}
    assert {"tune_arm", "profile_twin", "make_pairs", "profile_released"} <= rules


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_twice_from_scratch_gives_identical_statistics(smollm2, tmp_path):
    """config/ci.yaml on the real model, twice in two folders: the same statistics to the last byte."""
    written = []
    for run in ("first", "second"):
        checkout = Checkout(tmp_path / run)
        checkout.configfiles.append("config/ci.yaml")
        for name in ("downloads", "models"):
            shutil.copytree(smollm2.parents[1] / name, checkout.folder / "resources" / name, copy_function=shutil.copy2)
        checkout.snakemake()
        check_study(checkout, "ci", "smollm2-135m", n_layers=30)
        folder = results(checkout, "ci", "smollm2-135m") / "statistics"
        written.append({name: (folder / name).read_bytes() for name in STATISTICS})
    for name in STATISTICS:
        assert written[0][name] == written[1][name], name
