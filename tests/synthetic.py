"""A made-up results tree: 30 layers, 8 arms x 2 seeds x 6 benchmarks. Every number is drawn from a fixed generator;
none was measured.

`make_study(root)` writes `root/results/synthetic/made-up-model/` (and a study-level folder around it) in the layout
of the workflow, so that figures and the report can be tested without training anything.
"""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from colocate.files import write_csv, write_json, write_parquet
from colocate.statistics import claims, power
from colocate.statistics.reanalysis import reanalyse

SPECIFICATION = Path(__file__).resolve().parents[1] / "data/published/specification.yaml"
STUDY, MODEL, L, K, SEEDS = "synthetic", "made-up-model", 30, 3, (0, 1)
LATE, EARLY, MIDDLE = list(range(20, 28)), [0, 1, 2, 3, 4, 6, 7, 20], list(range(6, 24))
PROFILES = ["sensitivity_all", "sensitivity_skip_first", "sensitivity_answer", "rope_output", "rope_local"]
LAYERS = {  # arm -> (LoRA, GARFA)
    "base": ([], []),
    "colocated": (LATE, LATE),
    "lora_sensitive_garfa_positional": (LATE, EARLY),
    "lora_positional_garfa_sensitive": (EARLY, LATE),
    "positional_both": (EARLY, EARLY),
    "random": (None, None),
    "standard_lora": (list(range(L)), []),
    "mid_block": (MIDDLE, []),
}
ARMS = list(LAYERS)
BENCHMARKS = {"mini_mmlu": 64, "mini_gpqa": 32, "mini_humaneval": 20, "mini_math": 48, "mini_mgsm": 44, "mini_arc": 64}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PER_RANK = 2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536)  # LoRA parameters of one layer, for each unit of rank


def seeds_of(arm: str) -> tuple[int, ...]:
    return (0,) if arm == "base" else SEEDS


def rng_of(*names) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(str(name).encode()) for name in names])


def layers_of(arm: str, seed: int) -> tuple[list[int], list[int]]:
    lora, garfa = LAYERS[arm]
    if lora is None:
        drawn = sorted(rng_of("random", seed).choice(L, 8, replace=False).tolist())
        return drawn, drawn
    return lora, garfa


def make_study(root: Path) -> Path:
    """Write the whole tree; returns the study's folder, `root/results/synthetic`."""
    study = Path(root) / "results" / STUDY
    folder = study / MODEL
    write_json(folder / "geometry.json", GEOMETRY)
    _profiles(folder)
    _arms(folder)
    _evaluations(folder)
    _statistics(folder / "statistics")
    write_csv(study / "compute.csv", compute())
    write_csv(study / "mixture" / "contamination.csv", CONTAMINATION)
    write_csv(study / "mixture" / "contamination_counts.csv", COUNTS)
    write_csv(study / "reanalysis.csv", reanalyse(SPECIFICATION.parent / "numbers.csv"))
    write_csv(study / "needed.csv", power.needed(claims.read_claims(SPECIFICATION.parent / "claims.csv")))
    return study


def draw_figures(folder: Path, inputs: dict, note: str = "", kinds: tuple[str, ...] = ("svg", "pdf")) -> None:
    """Every figure of a model's folder with its table, in these forms."""
    from colocate import figures

    for name in figures.FIGURES:
        drawn = figures.draw(name, inputs, note)
        for kind in kinds:
            figures.save(drawn, folder / f"figures/{name}.{kind}")
        write_csv(folder / f"figures/{name}.csv", figures.table(name, inputs))


GEOMETRY = {
    "source": "synthetic: no model behind these numbers",
    "sha256": "0" * 64,
    "quantisation": "Q4_1, Q8_0",
    "n_layers": L,
    "n_heads": 9,
    "n_kv_heads": K,
    "head_dim": 64,
    "rotary_dim": 64,
    "rope_theta": 100000.0,
    "rope_type": "default",
    "n_params": 134515008,
    "dtype": "float32",
    "attention": "GQA",
}

CONTAMINATION = pd.DataFrame(
    [["train", "t17", "made up", "mini_math", "m3", "a train leaves the station at nine and another one leaves it at"]],
    columns=["split", "item", "source", "reference", "reference_item", "ngram"],
)
COUNTS = pd.DataFrame(
    [["made up", "train", "mini_math", 162, 1, 48, 1, "t17"]],
    columns=["source", "split", "reference", "rows", "rows_found", "items", "items_found", "examples"],
)


def _profiles(folder: Path) -> None:
    depth = np.arange(L) / (L - 1)
    for name in PROFILES:
        rng = rng_of("profile", name)
        wave = np.convolve(rng.normal(size=L + 4), np.ones(5) / 5, mode="valid")
        if name.startswith("sensitivity"):
            value = 0.02 + 0.11 * np.exp(-((depth - 0.8) ** 2) / 0.05) + 0.012 * wave
        else:
            value = np.exp(-9 + 3.5 * np.exp(-depth * 3) + 0.7 * wave)
        value = np.abs(value)
        half = 0.12 * value * (1 + rng.random(L))
        low, high = value - half, value + half
        table = pd.DataFrame({"layer": range(L), "value": value, "ci_low": low, "ci_high": high, "n": 60})
        write_csv(folder / f"profiles/{name}.csv", table)
    _variants(folder)
    sets = {"sensitive": ("sensitivity_all", LATE), "positional": ("rope_output", EARLY)}
    for name, (by, layers) in sets.items():
        rule = {"top": 0.28, "by": by}
        write_json(folder / f"layer_sets/{name}.json", {"name": name, "rule": rule, "layers": layers})
    write_json(folder / "layer_sets/middle.json", {"name": "middle", "rule": {"segments": "01110"}, "layers": MIDDLE})


def _variants(folder: Path) -> None:
    """Items whose `task` and `output` means are exactly the profiles, and controls beside them."""
    contrasts = {
        "task/all/state": 1.0,
        "wrong_wrong/all/state": 0.93,
        "paraphrase/all/state": 0.55,
        "swap/all/state": 0.3,
    }
    for profile, kinds in {"sensitivity_all": contrasts, "rope_output": {"output": 1.0, "noise_floor": 0.02}}.items():
        value = pd.read_csv(folder / f"profiles/{profile}.csv")["value"].to_numpy()
        rows = []
        for variant, scale in kinds.items():
            noise = rng_of(profile, variant).normal(1, 0.05, (8, L))
            noise /= noise.mean(axis=0)
            for item in range(8):
                columns = {"item": f"i{item}", "layer": range(L), "kv_head": -1, "value": scale * value * noise[item]}
                rows.append(pd.DataFrame({"variant": variant} | columns))
        write_parquet(folder / f"profiles/{profile}.variants.parquet", pd.concat(rows, ignore_index=True))


def arm_record(arm: str, seed: int) -> dict:
    lora, garfa = layers_of(arm, seed)
    rank = {"standard_lora": 4, "mid_block": 7}.get(arm, 16)
    n_trainable = len(lora) * rank * PER_RANK + len(garfa) * K
    reference = 8 * 16 * PER_RANK + 8 * K
    return {
        "arm": arm,
        "seed": seed,
        "lora_layers": lora,
        "garfa_layers": garfa,
        "rank": rank,
        "alpha": 2 * rank,
        "targets": TARGETS,
        "lr_lora": 5e-4,
        "lr_garfa": 1e-2,
        "n_trainable": n_trainable if lora else 0,
        "budget_deviation": n_trainable - reference if arm in ("standard_lora", "mid_block") else 0,
    }


def _arms(folder: Path) -> None:
    for arm in ARMS:
        for seed in seeds_of(arm):
            write_json(folder / f"arms/{arm}/seed{seed}.json", arm_record(arm, seed))
            if arm == "base":
                continue
            rng = rng_of("train", arm, seed)
            adapter = folder / f"adapters/{arm}/seed{seed}"
            steps = np.arange(1, 25)
            loss = 1.55 + 0.9 * np.exp(-steps / 6) + rng.normal(0, 0.05, 24) + 0.04 * ARMS.index(arm) / 8
            log = pd.DataFrame({"step": steps, "epoch": steps / 12, "split": "train", "loss": loss})
            log = log.assign(lr_lora=5e-4, lr_garfa=1e-2, grad_norm=1.0, tokens=steps * 1000)
            held = [[0, 0.0, "validate", 2.4, 0], [24, 2.0, "validate", loss[-5:].mean() + 0.1, 24000]]
            held += [[0, 0.0, "test", 2.42, 0], [24, 2.0, "test", loss[-5:].mean() + 0.12, 24000]]
            held = pd.DataFrame(held, columns=["step", "epoch", "split", "loss", "tokens"])
            write_csv(adapter / "training_log.csv", pd.concat([log, held], ignore_index=True))
            garfa = layers_of(arm, seed)[1]
            alphas = [[layer, head, np.exp(rng.normal(0.04, 0.05))] for layer in garfa for head in range(K)]
            weaker = np.linspace(0, 0.03, L) * (1 + rng.random(L))
            for metric, value in (("linear_cka", 1 - weaker), ("weight_change", 3 * weaker)):
                own = {"layer": range(L), "value": value, "ci_low": value - 0.002, "ci_high": value + 0.002, "n": 60}
                write_csv(folder / f"arm_profiles/{arm}/seed{seed}/{metric}.csv", pd.DataFrame(own))
            write_csv(adapter / "alphas.csv", pd.DataFrame(alphas, columns=["layer", "kv_head", "alpha"]))


def _evaluations(folder: Path) -> None:
    for arm in ARMS:
        for seed in seeds_of(arm):
            for benchmark, n in BENCHMARKS.items():
                path = folder / f"evaluations/{arm}/seed{seed}/{benchmark}.json"
                if benchmark == "mini_humaneval" and arm == "mid_block":
                    summary = {"status": "not run: no sandbox", "accuracy": None, "stderr": None, "n": n}
                else:
                    p = rng_of(benchmark).uniform(0.05, 0.4) + rng_of(arm).normal(0, 0.02)
                    correct = rng_of("evaluate", arm, seed, benchmark).binomial(n, np.clip(p, 0.01, 0.9))
                    accuracy = correct / n
                    stderr = (accuracy * (1 - accuracy) / (n - 1)) ** 0.5
                    summary = {"status": "ok", "accuracy": accuracy, "stderr": stderr, "n": n, "gold_logprob": -2.1}
                write_json(path, {**summary, "groups": n // 4, "margin": -0.2})
                write_json(path.with_suffix(".run.json"), {"seconds": 3.0})


def _contrasts() -> pd.DataFrame:
    rng = rng_of("contrasts")
    rows = []

    def row(a, b, benchmark, outcome, half, family, n):
        difference = rng.normal(0, half / 2)
        p = float(np.clip(rng.uniform(0.01, 1), 0, 1))
        adjusted = min(1.0, p * 6) if family == "primary" else np.nan
        low, high = difference - half, difference + half
        rows.append([a, b, benchmark, outcome, difference, low, high, p, adjusted, family, n, 2])

    n_all = sum(BENCHMARKS.values())
    for other in ARMS[2:7]:
        row("colocated", other, "composite", "accuracy", 0.07, "primary", n_all)
    row("colocated", "mid_block", "composite", "accuracy", 0.07, "exploratory", n_all)
    for other in ARMS[2:]:
        row("colocated", other, "heldout", "heldout_loss", 0.03, "exploratory", 60)
        row("colocated", other, "composite", "gold_logprob", 0.1, "exploratory", n_all)
    for arm in ARMS[1:]:
        row(arm, "base", "composite", "accuracy", 0.07, "exploratory", n_all)
        row(arm, "base", "heldout", "heldout_loss", 0.03, "exploratory", 60)
        for benchmark, n in BENCHMARKS.items():
            row(arm, "base", benchmark, "accuracy", 0.8 / n**0.5, "exploratory", n)
    names = "arm_a,arm_b,benchmark,outcome,difference,ci_low,ci_high,p,p_adjusted,family,n_items,n_seeds"
    table = pd.DataFrame(rows, columns=names.split(","))
    return table.assign(se=(table["ci_high"] - table["ci_low"]) / 4, df=20.0, note="made up")


def forgetting(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Arms minus base, and a divergence on neutral text."""
    rows = contrasts[(contrasts["arm_b"] == "base") & (contrasts["outcome"] == "accuracy")]
    rows = rows.rename(columns={"arm_a": "arm"}).query("benchmark != 'composite'")
    names = ["arm", "benchmark", "outcome", "difference", "ci_low", "ci_high", "p", "n_items", "n_seeds"]
    neutral = [[arm, "neutral_kl", "kl", 0.02, 0.015, 0.025, np.nan, 24, 2] for arm in ARMS[1:]]
    return pd.concat([rows[names], pd.DataFrame(neutral, columns=names)], ignore_index=True)


def _statistics(folder: Path) -> None:
    profiles = {name: pd.read_csv(folder.parent / f"profiles/{name}.csv")["value"] for name in PROFILES}
    rows = []
    for sens in PROFILES[:3]:
        for rope in PROFILES[3:]:
            r = float(profiles[sens].corr(profiles[rope], method="spearman"))
            row = {"sensitivity": sens, "rope": rope, "primary": (sens, rope) == ("sensitivity_all", "rope_output")}
            row |= {"n_layers": L, "r_s": r, "p_plain": 4e-6, "p_raw": 0.03, "p_depth": 0.21, "p_depth3": 0.32}
            row |= {"p_modified_t": 0.11, "partial_r_s": r / 3, "reliability_x": 0.93, "reliability_y": 0.9}
            row |= {"r_dis": max(r / 0.91, -1), "ci_low": max(r / 0.91 - 0.1, -1), "ci_high": r / 0.91 + 0.2}
            rows.append(row | {"n_items_x": 60, "n_items_y": 24, "overlap_k": 8, "overlap": 1, "note": ""})
    write_csv(folder / "correlations.csv", pd.DataFrame(rows))
    _layer_statistics(folder)
    contrasts = _contrasts()
    write_csv(folder / "contrasts.csv", contrasts)
    write_csv(folder / "forgetting.csv", forgetting(contrasts))
    columns = ["arm_a", "arm_b", "benchmark", "outcome", "basis", "n_seeds", "n_items", "se", "mde", "family"]
    write_csv(folder / "power.csv", contrasts.assign(basis="data", mde=2.8 * contrasts["se"])[columns])
    judged = []
    for claim, published, unit, threshold, numbers, verdict, sub in CLAIMS:
        row = {"claim": claim, "published": published, "threshold": threshold, "unit": unit, "source": "nowhere"}
        row |= {"text": f"A made-up claim about {claim.replace('_', ' ')}", "known": "made up", "estimand": "made up"}
        judged.append(row | {"scope": "direct", "verdict": "not_tested", "why": "made on another model"})
        here = dict(zip(("measured", "ci_low", "ci_high"), numbers, strict=True)) if numbers else {}
        judged.append(
            row | here | {"scope": "conceptual", "verdict": verdict, "label": sub, "why": "made up for tests"}
        )
    write_csv(folder / "claims.csv", pd.DataFrame(judged))
    write_json(folder / "recommendation.json", RECOMMENDATION)
    write_json(folder / "findings.json", [*FINDINGS, RECOMMENDATION["text"]])


def _layer_statistics(folder: Path) -> None:
    """What the statistics make of the made-up profiles, through the functions that make it of real ones."""
    from colocate.statistics import domains, regret, specifications, stability, twins

    profiles = {name: pd.read_csv(folder.parent / f"profiles/{name}.csv") for name in PROFILES}
    found = {name: folder.parent / f"profiles/{name}.variants.parquet" for name in PROFILES}
    variants = {name: pd.read_parquet(path) for name, path in found.items() if path.exists()}
    settings = {name: {"metric": "sensitivity", "pool": name.removeprefix("sensitivity_")} for name in PROFILES[:3]}
    settings |= {name: {"metric": "rope_influence", "method": name.removeprefix("rope_")} for name in PROFILES[3:]}
    primary, frozen = ("sensitivity_all", "rope_output"), specifications.read_frozen(SPECIFICATION)
    table, summary = specifications.curve(profiles, variants, settings, primary, frozen, 199)
    write_csv(folder / "specifications.csv", table)
    write_json(folder / "specification_curve.json", summary)
    items = {}
    for name, own in variants.items():
        kind = "task/all/state" if name.startswith("sens") else "output"
        items[name] = own[own["variant"] == kind][["item", "layer", "value"]]
    write_csv(folder / "selection.csv", stability.selection(items))
    write_csv(folder / "stability.csv", stability.stability(items, list(items)))
    labels = {kind: {f"i{item}": f"{kind} {item // 4}" for item in range(8)} for kind in domains.KINDS}
    write_csv(folder / "domains.csv", domains.domains({"sensitivity_all": items["sensitivity_all"]}, labels))
    others = {f"random{seed}": profiles | {"rope_output": profiles[PROFILES[4 - seed]]} for seed in (0, 1)}
    write_csv(folder / "twins.csv", twins.twins(others, primary))
    gain = pd.DataFrame({"layer": range(L), "value": 0.1 + 0.02 * rng_of("gain").normal(size=L), "n": 2})
    gain = gain.assign(ci_low=gain["value"] - 0.05, ci_high=gain["value"] + 0.05)
    write_csv(folder / "regret.csv", regret.regrets(profiles, {"layer_gain": gain}))


CLAIMS = [  # claim, published, unit, threshold, measured with its interval, verdict, label
    ("anti_localization", "-0.735", "", 0.5, (0.41, 0.16, 0.61), "cannot_tell", ""),
    ("colocated_best", "4 to 16 points", "points", 4, (-1.2, -8.1, 3.0), "does_not_hold_here", "smaller"),
    ("alphas_above_one", "all above 1", "log alpha", 0, (0.03, 0.01, 0.07), "holds_here", ""),
    ("haiku", "67.1 against 68.3", "points", 4, None, "not_tested", ""),
]
FINDINGS = [
    "Inconclusive: every number on this page is made up. sensitivity_all and rope_output over 30 layers: r_s = -0.85, "
    "95 % interval -1.00 to -0.73; a synthetic study, which says nothing about any model.",
    "Inconclusive: colocated is neither better nor worse than any of 5 other arms beyond chance. 272 items, 2 seeds: "
    "random +3.6 [-3.4, +10.6], standard_lora -3.7 [-10.7, +3.3].",
]
RECOMMENDATION = {
    "arm": "standard_lora",
    "text": "Adapt all 30 layers with LoRA (arm standard_lora). This advice is made up, as all numbers here are.",
    "lora_layers": list(range(L)),
    "garfa_layers": [],
    "candidates": [
        {
            "arm": arm,
            "validate_loss": 1.6 + 0.01 * place,
            "above_best": {"difference": 0.01 * place, "ci_low": 0.01 * place - 0.02, "ci_high": 0.01 * place + 0.02}
            if place
            else {},
            "p_adjusted": 0.3 if place else None,
            "compute_share": 1 - 0.05 * place,
            "n_trainable": 1_300_000 + place,
        }
        for place, arm in enumerate(["standard_lora", "mid_block", "colocated"])
    ],
}


def compute() -> pd.DataFrame:
    """One row a job, as colocate.compute collects them."""
    rows = []

    def job(rule, label, **values):
        seconds = float(rng_of("seconds", rule, label).uniform(5, 60))
        row = {"rule": rule, "model": MODEL, "label": f"{rule} {label}"}
        row |= {"device": "cpu", "dtype": "float32", "threads": 1}
        row |= {"seconds": seconds, "tokens": np.nan, "steps": np.nan, "flops": np.nan, "peak_memory_mib": 1200.5}
        row |= {"peak_gpu_memory_mib": np.nan, "joules": np.nan, "cost": seconds / 3600 * 0.04, "currency": "USD"}
        rows.append(row | values)

    for profile in PROFILES:
        job("profile_layers", profile)
    for arm in ARMS:
        for seed in seeds_of(arm):
            if arm != "base":
                job("train_arm", f"{arm} seed {seed}", tokens=24000, steps=24, flops=24000 * 6 * 1.345e8)
            for benchmark in BENCHMARKS:
                job("evaluate_arm", f"{benchmark} {arm} seed {seed}")
    return pd.DataFrame(rows)
