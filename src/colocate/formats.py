"""Numbers as people read them: a true minus, units, significant digits, and a dash where there is no value."""

import math
from collections.abc import Iterable

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def missing(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value, digits: int = 3) -> str:
    """`digits` significant digits; whole numbers in full, with commas from 10,000 up. Text stays as it is."""
    if missing(value):
        return NONE
    if isinstance(value, str | bool):
        return str(value)
    value = float(value)
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    if value == round(value) and abs(value) < 1e15 or abs(value) >= 10 ** (digits - 1):
        text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
    elif abs(value) >= 1e-4:
        text = f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}"
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa} × 10^{int(exponent)}".replace("^-", f"^{MINUS}")
    return text.replace("-", MINUS)


def fixed(value, digits: int = 2, sign: bool = False) -> str:
    """`digits` decimals, with a plus sign where wanted."""
    if missing(value):
        return NONE
    value = round(float(value), digits) + 0.0  # a zero has no sign
    return f"{value:{'+' if sign and value else ''}.{digits}f}".replace("-", MINUS)


def interval(low, high, digits: int = 2, sign: bool = False) -> str:
    """`low to high`, the bounds of an interval."""
    return NONE if missing(low) or missing(high) else f"{fixed(low, digits, sign)} to {fixed(high, digits, sign)}"


def percent(value, digits: int = 1) -> str:
    """A share of 1 in per cent."""
    return NONE if missing(value) else f"{fixed(100 * float(value), digits)} %"


def p_value(p) -> str:
    if missing(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds) -> str:
    """Seconds as s, min or h."""
    if missing(seconds):
        return NONE
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def scaled(value, unit: str = "") -> str:
    """A large number with the prefixes k, M, G, T, P, E, three significant digits; `unit` follows."""
    if missing(value):
        return NONE
    value = float(value)
    step = min(6, int(math.log10(abs(value)) // 3)) if abs(value) >= 1000 else 0
    return f"{number(value / 1000**step)} {['', 'k', 'M', 'G', 'T', 'P', 'E'][step]}{unit}".strip()


def layers(values: Iterable[int]) -> str:
    """Layer numbers with runs of three or more joined: 0–4, 6, 7."""
    runs = []
    for layer in sorted(values):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [f"{run[0]}{NONE}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts) or "none"
