"""What each claim of data/published/claims.csv asks of a study, as far as its config can say.

    gates seeds, draws      counted here; seeds are those of the arm that has fewest
    other gates (DECIDED)   only a run can tell, from its results
    ingredients             profiles, arms, benchmarks, models: those that `evidence` and `over_models` look up

Families of models are those of the statistics across models (across.family_of), with the geometry of the config.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from colocate import plan
from colocate.statistics import benchmarks
from colocate.statistics.across import family_of
from colocate.statistics.claims import outside
from colocate.statistics.contrasts import MASKS, SEGMENTS, SYNERGY
from colocate.statistics.evidence import CROSS_ARMS, PLACEMENTS
from colocate.statistics.gates import LEAST_RELIABILITY
from colocate.statistics.measurements_arms import CHEAPER, PEAK_ARMS
from colocate.statistics.over_models import FEWEST_FAMILIES
from colocate.statistics.twins import FEWEST_TWINS

# Gates that need results: what must turn out.
DECIDED = {
    "reliability": f"both primary profiles reliable ({LEAST_RELIABILITY:g})",
    "reliability_depth": "also given depth",
    "overlap": "S and R share fewer than half of their layers",
    "block": "S is not one block",
    "chance": "base above guessing",
}


@dataclass(frozen=True)
class Ingredient:
    """One thing that a claim asks for. `seeds`: how many more seeds would bring it, 0 if seeds do not."""

    text: str
    there: bool
    seeds: int = 0


def of_claim(claim: dict, config: dict) -> list[Ingredient]:
    """What a claim (a row of claims.csv) asks of a study's merged config, gates of DECIDED left out."""
    found = _ingredients(claim, config)
    for gate in filter(None, claim["gates"].split(";")):
        name, _, least = gate.partition(":")
        if name == "seeds":
            have = _seeds(claim["evidence"], config)
            found.append(Ingredient(f"{least} seeds (here {have})", have >= int(least), max(0, int(least) - have)))
        elif name == "draws":
            have = _draws(config)
            found.append(Ingredient(f"{least} random draws (here {have})", have >= int(least)))
    return found


def decided_by_a_run(claim: dict) -> list[str]:
    """What only a run can tell of a claim's gates."""
    names = [gate.partition(":")[0] for gate in claim["gates"].split(";") if gate]
    return [DECIDED[name] for name in names if name not in ("seeds", "draws")]


def families(config: dict) -> dict[str, set[str]]:
    """{kind of attention (GQA, MHA, MQA): families of the selected models}."""
    found: dict[str, set[str]] = {"GQA": set(), "MHA": set(), "MQA": set()}
    for name in config["select"]["models"]:
        shape = config["models"][name]["geometry"]
        heads = shape["n_kv_heads"]
        found["MQA" if heads == 1 < shape["n_heads"] else "MHA" if heads == shape["n_heads"] else "GQA"].add(
            family_of(name)
        )
    return found


def _arms(evidence: str, config: dict) -> tuple[str, ...]:
    """Arms that a claim's evidence compares, all of them needed; that of one of several is in _ingredients."""
    reference = config["statistics"]["reference"]
    return {
        "colocated_best": (reference, *CROSS_ARMS),
        "random_placement": (reference, "random"),
        "synergy": SYNERGY,
        "restricted_to_sensitive": (reference, *PLACEMENTS),
        "recipe": (reference, CROSS_ARMS[0]),
        "mid_block": ("standard_lora",),
        "last_segment": SEGMENTS,
        "mid_block_gsm8k": ("mid_block", "standard_lora"),
        "mid_block_cheaper": CHEAPER,
        "factual_regress": (reference,),
        "gains_everywhere": (reference,),
        "haiku": (reference,),
        "alphas_above_one": (reference,),
        "alphas_peak": (reference, *PEAK_ARMS),
    }.get(evidence, ())


def _seeds(evidence: str, config: dict) -> int:
    chosen = [arm for arm in _arms(evidence, config) if arm in config["select"]["arms"]]
    return min((len(config["arms"][arm].get("seeds", config["seeds"])) for arm in chosen), default=len(config["seeds"]))


def _draws(config: dict) -> int:
    """Random sets of layers: each draw with each seed; without arms of draws, the seeds of the arm `random`."""
    selected = config["select"]["arms"]
    drawn = [arm for arm in selected if "draw" in config["arms"][arm]] or [arm for arm in selected if arm == "random"]
    return sum(len(config["arms"][arm].get("seeds", config["seeds"])) for arm in drawn)


def _ingredients(claim: dict, config: dict) -> list[Ingredient]:
    selected, chosen = config["select"], config["statistics"]
    published = [name for name in selected["benchmarks"] if not benchmarks.is_mini(name)]
    domains = {benchmarks.domain(name) for name in selected["benchmarks"]}
    have = {*selected["profiles"], *(config["profiles"][name]["metric"] for name in selected["profiles"])}
    kinds = {kind: len(names) for kind, names in families(config).items()}

    def listed(what: str, names: Iterable[str], there: Iterable[str]) -> Ingredient:
        absent = [name for name in names if name not in there]
        told = absent or list(names)
        return Ingredient(f"the {what}{'s' * (len(told) > 1)} {', '.join(told)}", not absent)

    def counted(what: str, n: int, least: int) -> Ingredient:
        return Ingredient(f"{least} {what} (here {n})", n >= least)

    def any_arm(*names: str) -> Ingredient:
        return Ingredient(f"one of the arms {', '.join(names)}", any(name in selected["arms"] for name in names))

    primary = listed("profile", (chosen["primary_sensitivity"], chosen["primary_rope"]), have)
    ifeval = all(arm in selected["arms"] for arm in SEGMENTS) and any("ifeval" in name for name in published)
    found = {
        "anti_localization": [primary],
        "beyond_depth": [primary],
        "beyond_architecture": [primary, counted("random twins", config["twins"]["random"], FEWEST_TWINS)],
        "gqa_families": [primary, counted("model families with GQA", kinds["GQA"], FEWEST_FAMILIES)],
        "gqa_minus_mha": [
            primary,
            *(counted(f"model families with {kind}", kinds[kind], 2) for kind in ("GQA", "MHA")),
        ],
        "late_early": [primary],
        "one_scan": [listed("profile", (chosen["primary_sensitivity"],), have)],
        "early_structural": [listed("profile", ("probe", "early_exit"), have)],
        "mid_block": [any_arm(*MASKS)],
        "mid_block_gsm8k": [Ingredient("the benchmark GSM8K", any("gsm8k" in name for name in published))],
        "haiku": [Ingredient("the benchmark HumanEval+", any("humaneval_plus" in name for name in published))],
        "factual_regress": [Ingredient("a benchmark of knowledge", "knowledge" in domains)],
        "gains_everywhere": [Ingredient(f"a benchmark of {name}", name in domains) for name in benchmarks.DOMAINS],
        "middle_stable": [listed("arm profile", ("linear_cka",), selected["arm_profiles"])],
        "instruction_localised": [
            Ingredient(
                "the arm profile segment_swap, or the one-segment arms on IFEval",
                "segment_swap" in selected["arm_profiles"] or ifeval,
            )
        ],
        "sizes": [
            counted("sizes of one model family", _sizes(config), 2),
            any_arm(*dict.fromkeys((*MASKS, *SEGMENTS))),
        ],
        "cost": [Ingredient("the published study's own runs", not outside(claim, _scope(config)))],
    }.get(claim["evidence"], [])
    arms = _arms(claim["evidence"], config)
    return [*([listed("arm", arms, selected["arms"])] if arms else []), *found]


def _scope(config: dict) -> dict:
    """As the statistics of a finished study have it."""
    models = config["select"]["models"]
    return {
        "model": " ".join(f"{name} {config['models'][name]['source']}" for name in models),
        "mixture": [source.get("dataset", source["kind"]) for source in config["mixture"]["sources"]],
        "benchmarks": config["select"]["benchmarks"],
    }


def _sizes(config: dict) -> int:
    """Sizes of the family that has most."""
    sizes: dict[str, set[int]] = {}
    for name in config["select"]["models"]:
        sizes.setdefault(family_of(name), set()).add(plan.parameters(config["models"][name]["geometry"]))
    return max(map(len, sizes.values()))
