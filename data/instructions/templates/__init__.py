"""The registry of templates, and what several of them need.

A template is a function of a random generator that returns an Example. Its split is written beside it: whole templates
are held out, so that validate and test ask for the skill and not for the template with other numbers.

    word_problems   questions with numbers and the expression that answers them: the worked answer follows from it
    languages       the same in ten languages; single words translated
    mathematics     short mathematics whose answer is worded by hand
    facts           tables of one relation each, asked with four options
    code            small Python functions, each with checks
    reading         short texts to read
    logic           short inferences
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Example(NamedTuple):
    """`expression`: the arithmetic behind the number that ends the answer. `checks`: Python expressions that are true
    once the answer, a program, has run."""

    question: str
    answer: str
    expression: str = ""
    checks: tuple[str, ...] = ()


Draw = Callable[[random.Random], Example]
NAMES = (
    "Ada Ben Chloe Dmitri Elena Farid Grace Hugo Ines Jonas Kemi Lars Mina Nora Oskar Priya Quentin Rosa Sven Tara"
).split()


@dataclass(frozen=True)
class Template:
    name: str
    skill: str
    split: str
    draw: Draw
    most: int = 1000  # questions that are worth asking: few where a table of facts is short


REGISTRY: dict[str, Template] = {}


def add(template: Template) -> None:
    if template.name in REGISTRY:
        raise ValueError(f"template {template.name} is there twice")
    REGISTRY[template.name] = template


def template(skill: str, split: str = "train") -> Callable[[Draw], Draw]:
    """Decorator: register a function under its own name."""

    def register(draw: Draw) -> Draw:
        add(Template(draw.__name__, skill, split, draw))
        return draw

    return register


def choice(rng: random.Random, question: str, right: str, wrong: list[str]) -> Example:
    """A question with four options in random order; the answer is the letter and the text."""
    options = [right, *rng.sample([text for text in wrong if text != right], 3)]
    rng.shuffle(options)
    lines = [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True)]
    return Example("\n".join([question, *lines]), lines[options.index(right)])
