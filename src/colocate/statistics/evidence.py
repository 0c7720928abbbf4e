"""What a study measured of each published claim: oriented estimates with intervals, for
`colocate.statistics.claims.judge`.

Accuracy differences are in points, correlations as they are, alphas as logarithms. What rests on arms is looked up in
the contrasts (`lookups`); what rests on profiles in `measurements`, on trained adapters in `measurements_arms`; what
needs several models is judged for the study as a whole (`over_models`).
"""

import pandas as pd

from colocate.statistics import measurements, measurements_arms
from colocate.statistics.claims import Measurement
from colocate.statistics.contrasts import MASKS, SEGMENTS, SYNERGY
from colocate.statistics.gates import Guessing, profile_gates, set_gates
from colocate.statistics.lookups import Contrasts

CROSS_ARMS = ("lora_sensitive_garfa_positional", "lora_positional_garfa_sensitive", "positional_both")
PLACEMENTS = ("early", "late", "spaced", "standard_lora")
OF_THE_STUDY = ("gqa_families", "gqa_minus_mha", "sizes", "cost")


def evidence(
    *,
    correlations: pd.DataFrame,
    contrasts: pd.DataFrame,
    profiles: dict[str, pd.DataFrame],
    items: dict[str, pd.DataFrame | None],
    layer_sets: dict[str, dict],
    alphas: pd.DataFrame,
    summaries: pd.DataFrame,
    scope: dict,
    domains: pd.DataFrame | None = None,
    twins: pd.DataFrame | None = None,
    metrics: dict[str, str] | None = None,
    arms: list[dict] | None = None,
    validate_loss: dict[str, float] | None = None,
    cka: pd.DataFrame | None = None,
    segment_swap: pd.DataFrame | None = None,
    reference: str = "colocated",
    base: str = "base",
    sensitive: str = "sensitive",
    positional: str = "positional",
    seed: int = 0,
    aliases: dict[str, str] | None = None,
) -> dict:
    """{"scope", "gates", "measurements"} for `colocate.statistics.claims.judge`.

    correlations, contrasts   the tables of those names
    profiles, items           name to `layer,value`, and to `item,layer,value` or None
    layer_sets                name to {"layers": [...]}; `sensitive` and `positional` name S and R
    alphas                    arm,seed,layer,kv_head,alpha
    summaries                 arm,seed,benchmark,accuracy,n; an optional column `chance` overrides the known levels of
                              guessing
    scope                     {"model": name and source, "mixture": [sources], "benchmarks": [names]}
    domains, twins            the tables of those names
    metrics                   profile to its metric: where `probe` and `early_exit` are
    arms                      resolved arms: arm, lora_layers, garfa_layers, n_trainable
    validate_loss             arm to its mean held-out loss on validate
    cka, segment_swap         arm,seed,layer,value: debiased CKA with base; effect of swapping the layer's depth segment
    aliases                   {arm: the same arm, under the name that it was run under}
    """
    aliases = aliases or {}
    tables = (contrasts, alphas, summaries, cka, segment_swap)
    contrasts, alphas, summaries, cka, segment_swap = (_under_all_names(table, aliases) for table in tables)
    arms = [one | {"arm": name} for one in arms or () for name in _names(one["arm"], aliases)]
    losses = (validate_loss or {}).items()
    validate_loss = {name: loss for arm, loss in losses for name in _names(arm, aliases)}
    summaries = summaries.assign(accuracy=pd.to_numeric(summaries["accuracy"], errors="coerce"))
    rows = correlations[correlations["primary"].astype(bool)] if len(correlations) else correlations
    primary = rows.iloc[0].to_dict() if len(rows) else None
    sets = {
        letter: layer_sets[name]["layers"]
        for letter, name in (("S", sensitive), ("R", positional))
        if name in layer_sets
    }
    guessing = Guessing(summaries, base)
    table = Contrasts(contrasts, reference, guessing, validate_loss)
    gates = profile_gates(primary) | set_gates(sets) | {"chance": guessing.failed()}
    measured = measurements.correlations(primary)
    measured["beyond_architecture"] = measurements.beyond_twins(primary, twins)
    measured["late_early"] = measurements.late_early(primary, profiles, items, sets, seed)
    measured["one_scan"] = measurements.one_scan(primary, domains)
    measured["early_structural"] = measurements.early_structural(items, metrics or {})
    measured |= {
        "colocated_best": table.conjunction([(reference, arm) for arm in CROSS_ARMS], each_benchmark=True),
        "random_placement": table.random_placement(),
        "synergy": table.one(f"{reference} - {SYNERGY[1]}", f"{SYNERGY[2]} - {base}", "composite"),
        "factual_regress": table.conjunction([(base, reference)], each_benchmark=True, domain="knowledge"),
        "restricted_to_sensitive": table.conjunction([(reference, arm) for arm in PLACEMENTS]),
        "mid_block": table.best_of(MASKS, "standard_lora"),
        "last_segment": table.best_of(SEGMENTS[:-1], SEGMENTS[-1]),
        "mid_block_gsm8k": measurements_arms.both_readings(
            table.published_benchmark("mid_block", "standard_lora", "gsm8k"), summaries, "standard_lora", "gsm8k"
        ),
        "mid_block_cheaper": measurements_arms.mid_block_cheaper(arms),
        "gains_everywhere": table.domains(reference, base),
        "recipe": table.one(CROSS_ARMS[0], reference, "composite"),
        "haiku": measurements_arms.haiku(summaries, reference),
        "alphas_above_one": measurements_arms.alphas_above_one(alphas, reference),
        "alphas_peak": measurements_arms.alphas_peak(alphas, reference, sets.get("S")),
        "middle_stable": measurements_arms.middle_stable(cka),
        "instruction_localised": measurements_arms.instruction_localised(segment_swap, summaries),
    }
    whole = "a statement about several models, or the study as a whole: see across_claims.csv"
    measured |= dict.fromkeys(OF_THE_STUDY, Measurement(missing=whole))
    return {"scope": scope, "gates": gates, "measurements": {key: value for key, value in measured.items() if value}}


def _names(arm: str, aliases: dict[str, str]) -> list[str]:
    return [arm, *(alias for alias, first in aliases.items() if first == arm)]


def _under_all_names(table: pd.DataFrame | None, aliases: dict[str, str]) -> pd.DataFrame | None:
    """The rows of an arm once more under each other name of it: claims name arms, whatever name they ran under."""
    columns = [] if table is None else [name for name in ("arm", "arm_a", "arm_b") if name in table]
    for column in columns if aliases else ():
        again = [table[table[column] == first].assign(**{column: alias}) for alias, first in aliases.items()]
        table = pd.concat([table, *again], ignore_index=True)
    return table
