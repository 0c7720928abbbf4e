"""How fast a machine is: the calibration file of measured rates (data/rates.yaml, or the one that key `rates` names).

Light: plans read it at every start.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from colocate.errors import InputError

SHIPPED = Path(__file__).resolve().parents[2] / "data/rates.yaml"
KEYS = {"machine": str, "measured": bool, "pass": dict, "written": int | float, "start": int | float}
DTYPES = ("float32", "bfloat16", "float16", "nf4")


@dataclass(frozen=True)
class Machine:
    """One kind of device. passes: {dtype: seconds of a forward pass, per token and parameter, one thread or card}."""

    name: str
    measured: bool
    passes: dict[str, float]
    written: float  # forward passes that a token costs which the model writes
    start: float  # seconds until a model runs


@dataclass(frozen=True)
class Rates:
    """machines: {"cpu", "cuda"}. light: seconds of a job without a model; download: bytes a second; watts: by kind."""

    machines: dict[str, Machine]
    light: float
    download: float
    watts: dict[str, float]


def read(config: dict) -> Rates:
    """The rates that a study's merged config names. InputError for a file that is missing or says something else."""
    return _read(Path(config.get("rates") or SHIPPED))


@functools.cache
def _read(path: Path) -> Rates:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"rates: {path}: {error}; expected a file as data/rates.yaml") from None
    found = found if isinstance(found, dict) else {}
    machines = {}
    for kind in ("cpu", "cuda"):
        entry = _need(path, found, kind, dict)
        given = {key: _need(path, entry, key, type_, f"{kind}.") for key, type_ in KEYS.items()}
        for dtype in DTYPES:
            _need(path, given["pass"], dtype, int | float, f"{kind}.pass.")
        machines[kind] = Machine(
            given["machine"], given["measured"], given["pass"], float(given["written"]), float(given["start"])
        )
    light, download = (float(_need(path, found, key, int | float)) for key in ("light", "download"))
    watts = _need(path, found, "watts", dict)
    return Rates(
        machines, light, download, {kind: _need(path, watts, kind, int | float, "watts.") for kind in machines}
    )


def _need(path: Path, entry: dict, key: str, kind, above: str = ""):
    value = entry.get(key)
    if not isinstance(value, kind) or (kind == int | float and not value > 0):
        expected = "a number above 0" if kind == int | float else getattr(kind, "__name__", str(kind))
        raise InputError(f"rates: {path}: {above}{key}: found {value!r}, expected {expected}")
    return value
