"""What the statistics must know of a benchmark: its domain, the accuracy of guessing, whether it is one of the built-in
mini ones.
"""

# (part of the name, domain, accuracy of guessing): the first part found in a name decides. Generative benchmarks
# cannot be guessed.
FAMILIES = (
    ("mmlu", "knowledge", 0.25),
    ("gpqa", "knowledge", 0.25),
    ("arc", "knowledge", 0.25),
    ("humaneval", "code", 0.0),
    ("mbpp", "code", 0.0),
    ("mgsm", "mathematics", 0.0),
    ("gsm8k", "mathematics", 0.0),
    ("math", "mathematics", 0.0),
)
DOMAINS = ("knowledge", "mathematics", "code")


def domain(benchmark: str) -> str | None:
    """knowledge, mathematics or code; None for a benchmark of no known family."""
    return next((domain for part, domain, _ in FAMILIES if part in benchmark.lower()), None)


def chance(benchmark: str) -> float | None:
    """Accuracy of guessing, None for a benchmark of no known family."""
    return next((level for part, _, level in FAMILIES if part in benchmark.lower()), None)


def is_mini(benchmark: str) -> bool:
    """Whether the name says that this is a built-in mini benchmark, which can say nothing about the published one."""
    return "mini" in benchmark.lower()


def count_in_words(benchmarks: list[str]) -> str:
    """'6 mini benchmarks', '2 benchmarks, 1 of them mini', '1 benchmark'."""
    n, mini = len(benchmarks), sum(map(is_mini, benchmarks))
    noun = "benchmark" if n == 1 else "benchmarks"
    if mini in (0, n):
        return f"{n} {'mini ' if mini else ''}{noun}"
    return f"{n} {noun}, {mini} of them mini"
