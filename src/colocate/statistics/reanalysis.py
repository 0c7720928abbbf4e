"""What the printed numbers of the two studies can show, without any compute: the rows of reanalysis.csv.

    count          the whole number of items that prints as the percentage, for each size the benchmark has
    interval       Wilson's 95 % of a proportion (1927)
    difference     p_1 - p_2 of two scores on n items each, Wald's 95 % half-width 1.96 sqrt((p_1 q_1 + p_2 q_2) / n);
                   how the items pair is not printed, so they are taken as independent
    best of m      E max of m scores that are all p in truth, less p: e_m sqrt(p q (1 - rho) / n), e_m the mean of the
                   largest of m standard normals, rho the correlation of two masks over items, between 0 and 1/2
    p of r_s       plain t of n - 2; and P(|r_s| >= |r|) of two independent profiles that are smooth (nulls.py)
    overlap        P(no common layer) of two sets: drawn layer by layer (hypergeometric), or as two blocks of neighbours
    CKA            linear CKA of independent normal data, N texts of D dimensions: D / (D + N), from E tr W^2 of a
                   Wishart matrix

columns    study,quantity,printed,n,count,estimate,ci_low,ci_high,comparison,says; percentages and differences in
           points; of a p value, ci_low and ci_high are its range over the nulls
source     data/published/numbers.csv alone; a number that is unknown there gives no row
"""

from math import comb

import numpy as np
import pandas as pd
from scipy import integrate, stats

from colocate.errors import InputError
from colocate.results import wilson
from colocate.statistics import nulls

COLUMNS = ["study", "quantity", "printed", "n", "count", "estimate", "ci_low", "ci_high", "comparison", "says"]
# Test items of each benchmark that a score may be made of.
SIZES = {
    "HumanEval+": {"HumanEval+": 164},
    "GPQA": {"diamond": 198, "main": 448, "extended": 546},
    "MGSM": {"one language": 250, "ten languages": 2500, "eleven languages": 2750},
    "MATH": {"MATH-500": 500, "MATH": 5000},
    "ARC": {"ARC-Challenge": 1172, "ARC-Easy": 2376},
}
MASKS = 6  # Mid-Block masks, of which the best is printed
RHO = (0.5, 0.0)
CKA_TEXTS, CKA_WIDTH = 200, 4096  # of an 8B model; the number of texts is not printed
SMOOTH = [name for name in nulls.NULLS if name not in ("white", "AR(1) 0.7")]


class Numbers:
    """numbers.csv, by study, quantity, model and setting."""

    def __init__(self, path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        missing = [name for name in ("study", "quantity", "model", "setting", "value") if name not in table]
        if missing:
            raise InputError(f"{path}: columns {missing} are missing; found {list(table.columns)}")
        self.path, self.table = path, table

    def rows(self, study: str, quantity: str) -> pd.DataFrame:
        return self.table[(self.table["study"] == study) & (self.table["quantity"] == quantity)]

    def text(self, study: str, quantity: str, model: str | None = None, setting: str | None = None) -> str:
        rows = self.rows(study, quantity)
        for column, wanted in (("model", model), ("setting", setting)):
            rows = rows if wanted is None else rows[rows[column] == wanted]
        if len(rows) != 1:
            wanted = ", ".join(filter(None, (study, quantity, model, setting)))
            raise InputError(f"{self.path}: {wanted}: found {len(rows)} rows; needed: one")
        return rows["value"].iloc[0]

    def number(self, *where) -> float:
        text = self.text(*where)
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{self.path}: {', '.join(filter(None, where))}: found {text!r}; a number") from None


def reanalyse(numbers_csv) -> pd.DataFrame:
    """The table with COLUMNS, from the published numbers. Raises InputError naming a row that is missing or no
    number."""
    numbers = Numbers(numbers_csv)
    rows = [*scores(numbers), *headline(numbers), *correlation(numbers), *segments(numbers), *cka(numbers)]
    return pd.DataFrame(rows, columns=COLUMNS)


def counts(printed: str, n: int) -> list[int]:
    """Whole numbers of n items whose percentage prints as `printed`, the nearest first."""
    decimals = len(printed.partition(".")[2])
    near = round(float(printed) / 100 * n)
    return [count for count in (near, near - 1, near + 1) if f"{100 * count / n:.{decimals}f}" == printed]


def difference(p: float, q: float, n: float) -> tuple[float, float]:
    """p - q of two scores on n items each, and the half-width of its 95 % interval."""
    return p - q, float(stats.norm.ppf(0.975) * np.sqrt((p * (1 - p) + q * (1 - q)) / n))


def largest_normal(m: int) -> float:
    """Mean of the largest of m independent standard normals."""
    return float(integrate.quad(lambda z: m * z * stats.norm.pdf(z) * stats.norm.cdf(z) ** (m - 1), -10, 10)[0])


def best_of(m: int, p: float, n: float, rho: float) -> float:
    """Expected gain of the best of m equal arms over what each is worth."""
    return largest_normal(m) * float(np.sqrt(p * (1 - p) * (1 - rho) / n))


def disjoint_sets(k: int, m: int, n: int) -> float:
    """P(no common element) of k and m of n drawn one by one."""
    return comb(n - m, k) / comb(n, k)


def disjoint_blocks(k: int, m: int, n: int) -> float:
    """The same of two blocks of k and m neighbours, each anywhere."""
    apart = sum(a + k <= b or b + m <= a for a in range(n - k + 1) for b in range(n - m + 1))
    return apart / ((n - k + 1) * (n - m + 1))


def independent_cka(n: int, dimensions: int) -> float:
    """Linear CKA, published form, of independent normal data."""
    return dimensions / (dimensions + n)


def _row(study, quantity, printed, says, **values) -> dict:
    return {"study": study, "quantity": quantity, "printed": printed, "comparison": "", "says": says} | values


def _points(estimate: float, half: float) -> dict:
    return {"estimate": 100 * estimate, "ci_low": 100 * (estimate - half), "ci_high": 100 * (estimate + half)}


def scores(numbers: Numbers) -> list[dict]:
    """Each printed score with the counts that it may stand for."""
    rows = []
    for printed in numbers.rows("rao2026", "accuracy").to_dict("records"):
        benchmark = next((name for name in SIZES if printed["setting"].endswith(name)), None)
        if printed["value"] == "unknown" or benchmark is None:
            continue
        quantity = f"accuracy, {printed['model']}, {printed['setting']}"
        found = {kind: (n, counts(printed["value"], n)) for kind, n in SIZES[benchmark].items()}
        fitting = {kind: (n, right) for kind, (n, right) in found.items() if right}
        sizes = ", ".join(f"{kind} ({n})" for kind, (n, _) in found.items())
        if not fitting:
            says = f"no whole number of items prints so, of {sizes}: a mean of subjects, or another test set"
            rows.append(_row("rao2026", quantity, printed["value"], says))
        for kind, (n, right) in fitting.items():
            says = f"{right[0]} of {n}, {kind}"
            says += f"; fits {len(fitting)} of the sizes {sizes}" if len(fitting) > 1 else ""
            low, high = wilson(right[0] / n, n)
            ends = {"estimate": 100 * right[0] / n, "ci_low": 100 * low, "ci_high": 100 * high}
            rows.append(_row("rao2026", quantity, printed["value"], says, n=n, count=right[0], **ends))
    return rows


def headline(numbers: Numbers) -> list[dict]:
    """The co-located arm against the frontier model and against the untrained model, and 4 points on 164 items."""
    n, rows = SIZES["HumanEval+"]["HumanEval+"], []
    where = ("rao2026", "accuracy", "Llama 3.1 8B", "co-located, HumanEval+")
    arm = counts(numbers.text(*where), n)[0]
    for name, model, setting in (
        ("Claude 3.5 Haiku", "Claude 3.5 Haiku", "HumanEval+"),
        ("the untrained model", "Llama 3.1 8B", "untrained, HumanEval+"),
    ):
        printed = numbers.text("rao2026", "accuracy", model, setting)
        other = counts(printed, n)[0]
        estimate, half = difference(arm / n, other / n, n)
        says = f"{100 * estimate:+.1f} +- {100 * half:.1f} points: neither ahead, behind nor equal within 4 can be said"
        quantity = f"HumanEval+, co-located less {name}"
        against = {"n": n, "comparison": f"{arm} against {other} of {n}"}
        rows.append(
            _row("rao2026", quantity, f"{numbers.text(*where)} - {printed}", says, **against, **_points(estimate, half))
        )
    least = numbers.text("rao2026", "smallest gain of the co-located arm")
    half = difference(arm / n, arm / n, n)[1]
    says = f"{float(least) / 100 * n:.1f} of {n} items; "
    says += f"two equal arms differ by up to {100 * half:.1f} points in 95 % of runs"
    rows.append(_row("rao2026", "smallest gain, on HumanEval+", least, says, n=n, **_points(float(least) / 100, half)))
    return rows


def correlation(numbers: Numbers) -> list[dict]:
    """The p value of r_s as printed and as valid, and the overlap of the two sets."""
    r = numbers.number("rao2026", "Spearman correlation of the profiles")
    printed = numbers.text("rao2026", "p of the Spearman correlation")
    n = int(numbers.number("rao2026", "layers"))
    plain = float(2 * stats.t.sf(abs(r) * np.sqrt((n - 2) / (1 - r * r)), n - 2))
    chance = [nulls.share_as_large(nulls.NULLS[name], r, n) for name in SMOOTH]
    z = np.arctanh(r) + np.array([-1, 1]) * stats.norm.ppf(0.975) / np.sqrt(n - 3)
    ends = dict(zip(("ci_low", "ci_high"), np.tanh(z), strict=True))
    sets = {
        letter: [int(numbers.number("rao2026", f"{kind} layers", None, end)) for end in ("first", "last")]
        for letter, kind in (("S", "sensitive"), ("R", "RoPE-influential"))
    }
    k, m = (last - first + 1 for first, last in sets.values())
    apart = disjoint_sets(k, m, n), disjoint_blocks(k, m, n)
    listed = ", ".join(f"{share:.2f} ({name})" for name, share in zip(SMOOTH, chance, strict=True))
    lowest, highest = min(chance), max(chance)

    def row(quantity: str, printed: str, estimate: float, comparison: str, says: str, **ends) -> dict:
        return _row("rao2026", quantity, printed, says, n=n, estimate=estimate, comparison=comparison, **ends)

    return [
        row(
            "Spearman correlation of the profiles",
            f"{r}",
            r,
            f"Fisher's interval for {n} independent layers",
            "too narrow: neighbouring layers are alike",
            **ends,
        ),
        row(
            "p of the correlation, as printed",
            printed,
            plain,
            f"t test with {n - 2} degrees of freedom",
            "the plain test of independent layers; not valid for neighbouring ones",
        ),
        row(
            "p of the correlation, as valid",
            printed,
            highest,
            f"P(|r_s| >= {abs(r)}) of two independent profiles: {listed}",
            f"{lowest:.2f} to {highest:.2f}, by how smooth the profiles are; the profiles themselves are not printed",
            ci_low=lowest,
            ci_high=highest,
        ),
        row(
            "no common layer of S and R",
            f"layers {' and '.join(f'{first}-{last}' for first, last in sets.values())}",
            apart[1],
            f"{apart[0]:.3f} if layers were drawn one by one, {apart[1]:.2f} for two blocks of neighbours",
            "that two blocks do not meet is no evidence",
            ci_low=apart[0],
            ci_high=apart[1],
        ),
    ]


def segments(numbers: Numbers) -> list[dict]:
    """Mid-Block's gains with the items they rest on, what the best of six masks gains by chance, and its +10.2 %."""
    table = numbers.rows("zhao2026", "GSM8K accuracy")
    n = int(numbers.number("zhao2026", "GSM8K test items"))
    rows, relative, points = [], [], []
    for model, part in table.groupby("model", sort=False):
        score = part.set_index("setting")["value"]
        best = part.loc[part["note"].str.startswith("best Mid-Block"), "setting"].iloc[0]
        p, all_layers = float(score[best]), float(score["mask 11111"])
        estimate, half = difference(p, all_layers, n)
        chance = [100 * best_of(MASKS, p, n, rho) for rho in RHO]
        says = (
            f"{100 * estimate:+.1f} +- {100 * half:.1f} points; {'beyond' if estimate > half else 'within'} its error"
        )
        says += f"; the best of {MASKS} equal masks gains {chance[0]:+.1f} to {chance[1]:+.1f}"
        quantity, against = (
            f"GSM8K, {model}, {best} less all layers",
            {"n": n, "comparison": f"{p} against {all_layers}"},
        )
        rows.append(_row("zhao2026", quantity, f"{100 * estimate:+.1f}", says, **against, **_points(estimate, half)))
        relative.append(_reach(p, all_layers, score[best], score["mask 11111"], model))
        points.append(f"{100 * (p - all_layers):.1f}")
        last = score.get("mask 00001")
        for mask in score.index if last is not None else ():
            if mask in ("mask 00001", "mask 11111"):
                continue
            estimate, half = difference(float(last), float(score[mask]), n)
            says = f"{100 * estimate:+.1f} +- {100 * half:.1f} points, one run each"
            quantity, against = (
                f"GSM8K, {model}, mask 00001 less {mask}",
                {"n": n, "comparison": f"{last} against {score[mask]}"},
            )
            rows.append(
                _row("zhao2026", quantity, f"{100 * estimate:+.1f}", says, **against, **_points(estimate, half))
            )
    gain = numbers.number("zhao2026", "gain on GSM8K")
    fitting = [model for low, high, model in relative if low <= gain <= high]
    said = f"as points it fits no printed pair ({', '.join(points)}); "
    said += f"relative it fits {', '.join(fitting) or 'none'} within rounding"
    rows.append(_row("zhao2026", "gain on GSM8K", f"+{gain:g} %", said, comparison="points, or relative to all layers"))
    return rows


def _reach(p: float, q: float, printed_p: str, printed_q: str, model: str) -> tuple[float, float, str]:
    """Relative gain of p over q in per cent, from least to most under rounding as printed."""
    half = [0.5 * 10.0 ** -len(text.partition(".")[2]) for text in (printed_p, printed_q)]
    low, high = (p - half[0]) / (q + half[1]), (p + half[0]) / (q - half[1])
    return 100 * (low - 1), 100 * (high - 1), model


def cka(numbers: Numbers) -> list[dict]:
    """CKA as printed beside what unrelated states give."""
    chance = independent_cka(CKA_TEXTS, CKA_WIDTH)
    against = f"independent states, {CKA_TEXTS} texts of {CKA_WIDTH} dimensions"
    says = f"unrelated states give {chance:.3f}: the debiased form is needed (number of texts: assumed, not printed)"
    return [
        _row("zhao2026", f"linear CKA, {row['setting']}", row["value"], says, estimate=chance, comparison=against)
        for row in numbers.rows("zhao2026", "linear CKA with base").to_dict("records")
    ]
