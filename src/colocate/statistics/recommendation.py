"""Which layers to adapt: chosen on the validate split's held-out loss, quoted on the test split.

`basis` says by what: `arms`, as follows; else `layer_gain` (or its kinds), else `proxy` (layer_choice.py). Beside arms,
what their layers lose against layer gain, where that was measured, and how well each cheap metric would have chosen.

1. The best arm has the least mean validate loss over seeds and examples. Arms whose layers are drawn at random are no
   candidates: they are the yardstick.
2. Every other candidate is compared with it, paired over seeds and examples (`colocate.statistics.variance`), adjusted
   by Holm. Those that are not worse at 5 % cannot be told from the best, and of all these the cheapest is recommended:
   least training compute, then fewest trainable parameters, then least loss.
3. On test: its loss against base, against LoRA on all layers, against random layers, and against the best arm. If even
   the best arm does not beat base on validate, the advice is to adapt nothing.

Training compute of one token, as a share of adapting all L layers: one pass forward through every layer, and one back
through those above the first adapted layer f, (L + L - f) / (2 L). Embedding and head are left out.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd

from colocate.errors import InputError
from colocate.statistics.layer_choice import GAINS, by_gain, by_proxy
from colocate.statistics.outcomes import Combination, Scores, combination, scores
from colocate.statistics.regret import regret
from colocate.statistics.variance import holm


def recommend(
    heldout: pd.DataFrame,
    arms: Sequence[dict],
    *,
    n_layers: int,
    base: str = "base",
    random_arms: Sequence[str] = (),
    gains: dict[str, pd.DataFrame] | None = None,
    proxy: tuple[str, pd.DataFrame] | None = None,
    selection: pd.DataFrame | None = None,
    regrets: pd.DataFrame | None = None,
) -> dict:
    """The content of recommendation.json: by trained arms, else by layer gain, else by a proxy.

    heldout, arms, random_arms    as for `by_arms`
    gains       layer_gain, layer_gain_without, layer_gain_block: `layer,value,ci_low,ci_high,n`
    proxy       name and profile `layer,value` of the primary sensitivity
    selection   selection.csv
    regrets     regret.csv
    """
    gains = gains or {}
    trained = set(heldout["arm"]) - {base, *random_arms} if len(heldout) else set()
    if trained & {arm["arm"] for arm in arms}:
        found = by_arms(heldout, arms, n_layers=n_layers, base=base, random_arms=random_arms)
        found |= {"layer_gain": _against_gain(found["lora_layers"], gains)}
    elif gains or proxy is not None:
        choice = by_gain(gains) if gains else by_proxy(*proxy, selection)
        found = _untrained(choice, n_layers)
    else:
        found = _nothing("No arm was trained, no layer gain and no profile measured: nothing can be recommended.")
    return found | {"proxies": _proxies(regrets)}


def _untrained(choice: dict, n_layers: int) -> dict:
    """A choice of layers that no arm was trained with, in the form of a recommendation."""
    share = compute_share({"lora_layers": choice["lora_layers"], "garfa_layers": []}, n_layers)
    text = (
        f"Adapt {layers_in_words(choice['lora_layers'], n_layers)} with LoRA. {choice['why']} "
        f"Not quoted on test: train an arm with these layers, and one with all, to see what they give. "
        f"Training compute {100 * share:.0f} % of adapting all layers."
    )
    fixed = {"arm": None, "garfa_layers": [], "chosen_on": "validate" if choice["gain"] else None, "quoted_on": None}
    return choice | fixed | {"text": text, "compute_share": share}


def _against_gain(layers: list[int], gains: dict[str, pd.DataFrame]) -> dict | None:
    """Regret of a set of layers against each layer gain; 0 for all layers, whose sum nothing can exceed."""
    if not layers or not gains:
        return None
    found = {}
    for name, table in gains.items():
        table = table.set_index("layer").sort_index()
        chosen = table.index.isin(layers)
        found[name] = 0.0 if chosen.all() else _plain(float(regret(table["value"].to_numpy(float), chosen)))
    return found


def _proxies(regrets: pd.DataFrame | None) -> list[dict]:
    """Cheap metrics by their regret against the first layer gain measured, the least first."""
    if regrets is None or regrets.empty:
        return []
    against = next(name for name in GAINS if name in set(regrets["against"]))
    rows = regrets[(regrets["against"] == against) & regrets["regret"].notna()].sort_values("regret", kind="stable")
    named = ["metric", "direction", "against", "regret", "ci_low", "ci_high"]
    return [
        {key: row[key] if isinstance(row[key], str) else _plain(row[key]) for key in named}
        for row in rows.to_dict("records")
    ]


def by_arms(
    heldout: pd.DataFrame, arms: Sequence[dict], *, n_layers: int, base: str = "base", random_arms: Sequence[str] = ()
) -> dict:
    """The recommendation by trained arms.

    heldout        arm,seed,split,item,group,loss of every trained arm and of base
                   (`colocate.statistics.contrasts.stack_heldout`)
    arms           resolved arms: arm, lora_layers, garfa_layers, n_trainable; further seeds of an arm change nothing
    random_arms    arms whose layers are drawn anew for every seed

    Losses are in nat a token; differences below 0 are for the recommended arm. Raises InputError without a validate or
    test split.
    """
    resolved = {}
    for arm in arms:
        resolved.setdefault(arm["arm"], arm)
    validate, test = (_table(heldout, split, base) for split in ("validate", "test"))
    candidates = [arm for arm in resolved if arm in validate.values and arm not in (base, *random_arms)]
    loss = {arm: float(np.nanmean(validate.values[arm])) for arm in candidates}
    best = min(candidates, key=lambda arm: loss[arm])
    others = {arm: _compare(validate, arm, best, base, random_arms) for arm in candidates if arm != best}
    adjusted = dict(zip(others, holm(np.array([_p(found) for found in others.values()])), strict=True))
    equals = [best] + [arm for arm, p in adjusted.items() if not p <= 0.05]
    cost = {arm: compute_share(resolved[arm], n_layers) for arm in candidates}
    chosen = min(equals, key=lambda arm: (cost[arm], resolved[arm]["n_trainable"], loss[arm]))
    rows = [
        {
            "arm": arm,
            "validate_loss": loss[arm],
            "above_best": _numbers(others.get(arm)),
            "p_adjusted": _plain(adjusted.get(arm)),
            "compute_share": cost[arm],
            "n_trainable": resolved[arm]["n_trainable"],
        }
        for arm in sorted(candidates, key=lambda arm: loss[arm])
    ]
    over_base = _compare(validate, best, base, base, random_arms)
    if over_base is not None and not over_base.estimate.interval()[1] < 0:
        text = (
            f"Adapt nothing: on validate, not even {best} has a lower held-out loss than {base} ({_words(over_base)})."
        )
        return _nothing(text) | {"candidates": rows}
    all_layers = [arm for arm in candidates if _is_everything(resolved[arm], n_layers)]
    against = {"base": base, "best": best, "all_layers": next(iter(all_layers), None)}
    against["random"] = next((arm for arm in random_arms if arm in test.values), None)
    quoted = {
        key: (arm, _compare(test, chosen, arm, base, random_arms))
        for key, arm in against.items()
        if arm not in (None, chosen)
    }
    return {
        "arm": chosen,
        "basis": "arms",
        "text": _advice(chosen, best, equals, candidates, resolved[chosen], n_layers, cost[chosen], quoted),
        "lora_layers": list(resolved[chosen]["lora_layers"]),
        "garfa_layers": list(resolved[chosen]["garfa_layers"]),
        "all_layers": _is_everything(resolved[chosen], n_layers),
        "best_on_validate": best,
        "not_distinguishable": sorted(set(equals) - {chosen}),
        "chosen_on": "validate",
        "quoted_on": "test",
        "test_loss": float(np.nanmean(test.values[chosen])) if chosen in test.values else None,
        "test": {key: {"against": arm, **_numbers(found)} for key, (arm, found) in quoted.items() if found is not None},
        "n_trainable": resolved[chosen]["n_trainable"],
        "compute_share": cost[chosen],
        "n_items": {"validate": validate.values[chosen].shape[1], "test": test.values[chosen].shape[1]},
        "n_seeds": len(validate.seeds[chosen]),
        "candidates": rows,
    }


def compute_share(arm: dict, n_layers: int) -> float:
    """Training compute of a token with this arm, as a share of that with all layers adapted."""
    first = min([*arm["lora_layers"], *arm["garfa_layers"]], default=n_layers)
    return (2 * n_layers - first) / (2 * n_layers)


def layers_in_words(layers: Sequence[int], n_layers: int) -> str:
    """'all 30 layers', 'layers 0-3, 7 and 21-29', 'no layer'."""
    if len(layers) == n_layers:
        return f"all {n_layers} layers"
    runs = []
    for _, run in groupby(enumerate(sorted(layers)), key=lambda pair: pair[1] - pair[0]):
        numbers = [layer for _, layer in run]
        runs.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    words = " and ".join(filter(None, [", ".join(runs[:-1]), *runs[-1:]]))
    return f"layer{'s' * (len(layers) > 1)} {words}" if layers else "no layer"


def _table(heldout: pd.DataFrame, split: str, base: str) -> Scores:
    found = scores(heldout[heldout["split"] == split], "loss", "heldout", "heldout_loss", base)
    if found is None:
        raise InputError(f"heldout: no loss of split {split!r}; found {sorted(set(heldout['split']))}")
    return found


def _compare(table: Scores, arm: str, other: str, base: str, random_arms: Sequence[str]) -> Combination | None:
    return combination([table], {arm: 1.0, other: -1.0}, base, random_arms)


def _p(found: Combination | None) -> float:
    return found.estimate.p if found else float("nan")


def _plain(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _numbers(found: Combination | None) -> dict:
    if found is None:
        return {}
    low, high = found.estimate.interval()
    values = {"difference": found.estimate.difference, "ci_low": low, "ci_high": high}
    return {key: _plain(value) for key, value in values.items()}


def _is_everything(arm: dict, n_layers: int) -> bool:
    return len(arm["lora_layers"]) == n_layers


def _nothing(text: str) -> dict:
    return {
        "arm": None,
        "basis": "arms",
        "text": text,
        "lora_layers": [],
        "garfa_layers": [],
        "chosen_on": "validate",
        "quoted_on": "test",
    }


def _words(found: Combination) -> str:
    low, high = found.estimate.interval()
    return f"{found.estimate.difference:+.3f} nat a token, 95 % interval {low:+.3f} to {high:+.3f}"


def _advice(chosen, best, equals, candidates, arm, n_layers, cost, quoted) -> str:
    """The recommendation in words, with what it rests on."""
    methods = {"LoRA": arm["lora_layers"], "GARFA": arm["garfa_layers"]}
    used = [f"{layers_in_words(layers, n_layers)} with {method}" for method, layers in methods.items() if layers]
    if methods["LoRA"] == methods["GARFA"]:
        used = [f"{layers_in_words(arm['lora_layers'], n_layers)} with LoRA and GARFA"]
    what = " and ".join(used)
    n = len(candidates)
    if n == 1:
        why = "It is the only arm trained, so no layer choice was compared."
    elif len(equals) == n:
        why = f"The {n} arms cannot be told apart on validate; this one is the cheapest."
    elif len(equals) > 1:
        why = f"{len(equals)} of {n} arms cannot be told apart on validate ({', '.join(equals)}); this is the cheapest."
    else:
        why = f"It has the least validate loss of {n} arms, by more than chance."
    text = [f"Adapt {what} (arm {chosen}). {why}"]
    names = {
        "base": "base",
        "best": f"{best}, best on validate",
        "all_layers": "LoRA on all layers",
        "random": "random layers",
    }
    for key, (other, found) in quoted.items():
        if found is None or (key == "best" and other == quoted.get("all_layers", (None,))[0]):
            continue
        low, high = found.estimate.interval()
        tail = "" if high < 0 else f" (not better beyond chance; at worst {high:+.3f})"
        tail = " (worse, beyond chance)" if low > 0 else tail
        text.append(f"On test against {names[key]}: {_words(found)}{tail}.")
    found = next((found for _, found in quoted.values() if found is not None), None)
    if found is not None:
        k = len(found.seeds)
        seeds = "1 seed, so this speaks of these checkpoints only" if k == 1 else f"{k} seeds"
        text.append(f"{found.n_items} held-out examples, {seeds}.")
    text.append(
        f"{arm['n_trainable']:,} trainable parameters; training compute {100 * cost:.0f} % of adapting all layers."
    )
    return " ".join(text)
