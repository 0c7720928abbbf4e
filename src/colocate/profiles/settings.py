"""From a config entry to a metric's frozen settings: unknown keys, wrong types and unknown choices are named errors."""

from dataclasses import dataclass, fields
from typing import ClassVar

from colocate.errors import InputError


def parse(kind, settings: dict):
    """`kind(**settings)` for a frozen dataclass of plain values. The key `metric`, which chose it, is left out."""
    given = {key: value for key, value in settings.items() if key != "metric"}
    known = {field.name: field for field in fields(kind)}
    for key, value in given.items():
        if key not in known:
            raise InputError(f"{key}: unknown setting; allowed: {', '.join(known)}")
        kinds = (int, float) if known[key].type is float else known[key].type
        if not isinstance(value, kinds) or isinstance(value, bool) != (kinds is bool):
            raise InputError(f"{key}: found {value!r}, expected {known[key].type.__name__}")
    return kind(**given)


def choice(name: str, value: str, allowed) -> None:
    if value not in allowed:
        raise InputError(f"{name}: found {value!r}, allowed: {', '.join(allowed)}")


def at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise InputError(f"{name}: found {value!r}, expected at least {low}")


@dataclass(frozen=True)
class Pooled:
    """What metrics of pooled tokens have in common; a metric's own class names its `pools`.

    pool: which variant becomes the profile. seed: of the interval. batch_tokens: tokens that share a forward.
    """

    pools: ClassVar[tuple[str, ...]] = ()
    pool: str = "all"
    seed: int = 0
    batch_tokens: int = 4096

    def __post_init__(self):
        choice("pool", self.pool, self.pools)
        at_least("batch_tokens", self.batch_tokens, 1)
