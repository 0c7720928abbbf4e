"""Short inferences."""

from templates import NAMES, Example, choice, template
from templates.reading import COLORS, DAYS, ROOMS

KINDS = {
    "fruit": ["apple", "pear", "plum", "cherry", "grape"],
    "tool": ["hammer", "saw", "drill", "wrench", "chisel"],
    "metal": ["iron", "copper", "zinc", "tin", "nickel"],
    "instrument": ["violin", "flute", "drum", "harp", "trumpet"],
    "bird": ["robin", "crow", "heron", "finch", "owl"],
}
MONTHS = ("January February March April May June July August September October November December").split()
THINGS = ["key", "ring", "coin", "letter", "watch", "ticket"]
MADE_UP = ["blick", "dax", "fep", "gorp", "mib", "tupa", "wug", "zorn", "lorch", "kiv"]


@template("logic")
def taller_chain(rng):
    a, b, c = rng.sample(NAMES, 3)
    return Example(
        f"{a} is taller than {b}. {b} is taller than {c}. Who is the shortest?",
        f"{c} is shorter than {b}, so the shortest is {c}.",
    )


@template("logic")
def syllogism(rng):
    a, b, c = rng.sample(MADE_UP, 3)
    return Example(
        f"All {a}s are {b}s. All {b}s are {c}s. Is every {a} a {c}?",
        f"Yes. Every {a} is a {b}, and every {b} is a {c}.",
    )


@template("logic")
def no_member(rng):
    a, b = rng.sample(MADE_UP, 2)
    name = rng.choice(NAMES)
    return Example(f"No {a} is a {b}. {name} is a {a}. Is {name} a {b}?", f"No. {name} is a {a}, and no {a} is a {b}.")


@template("logic")
def odd_one_out(rng):
    kind, other = rng.sample(sorted(KINDS), 2)
    words = [*rng.sample(KINDS[kind], 3), rng.choice(KINDS[other])]
    odd = words[-1]
    rng.shuffle(words)
    question = f"Which word does not belong: {', '.join(words)}?"
    return Example(question, f"The others are each a kind of {kind}, so the answer is {odd}.")


@template("logic")
def days_later(rng):
    day, n = rng.randrange(7), rng.randint(2, 6)
    then = DAYS[(day + n) % 7]
    return Example(
        f"Today is {DAYS[day]}. Which day is it in {n} days?",
        f"{n} days after {DAYS[day]} is {then}. The answer is {then}.",
    )


@template("logic")
def category_choice(rng):
    kind = rng.choice(sorted(KINDS))
    right = rng.choice(KINDS[kind])
    wrong = [word for name, words in sorted(KINDS.items()) if name != kind for word in words]
    return choice(rng, f"Which of these is a kind of {kind}?", right, wrong)


@template("logic", "validate")
def if_then(rng):
    thing, other = rng.sample(["alarm rings", "lamp is on", "gate is open", "fan turns", "horn sounds"], 2)
    color = rng.choice(COLORS)
    question = (
        f"If the button is {color}, the {thing}. The button is {color}. Does the "
        f"{thing.split()[0]} react, or the {other.split()[0]}?"
    )
    return Example(question, f"The button is {color}, so the {thing}. The answer is the {thing.split()[0]}.")


@template("logic", "test")
def heavier_of_three(rng):
    a, b, c = rng.sample(["stone", "crate", "barrel", "sack", "trunk", "anvil", "log"], 3)
    question = f"The {a} weighs less than the {b}. The {c} weighs more than the {b}. Which is the heaviest?"
    return Example(
        question, f"The {c} weighs more than the {b}, which weighs more than the {a}. The answer is the {c}."
    )


@template("logic")
def either_or(rng):
    thing, (first, second) = rng.choice(THINGS), rng.sample(ROOMS, 2)
    question = f"The {thing} is in the {first} or in the {second}. It is not in the {first}. Where is it?"
    return Example(question, f"Not in the {first}, so the {thing} is in the {second}.")


@template("logic")
def standing_between(rng):
    a, b, c = rng.sample(NAMES, 3)
    question = f"From left to right stand {a}, {b} and {c}. Who stands between the other two?"
    return Example(question, f"{b} stands between {a} and {c}.")


@template("logic")
def fastest_runner(rng):
    a, b, c = rng.sample(NAMES, 3)
    question = f"{a} runs faster than {b}, and {c} runs slower than {b}. Who is the fastest?"
    return Example(question, f"{a} is faster than {b}, who is faster than {c}. The fastest is {a}.")


@template("logic")
def next_letter(rng):
    start, step = rng.randrange(10), rng.randint(1, 4)
    letters = [chr(ord("A") + start + i * step) for i in range(5)]
    question = f"Which letter comes next: {', '.join(letters[:4])}?"
    return Example(question, f"Each letter is {step} further in the alphabet. The answer is {letters[4]}.")


@template("logic")
def cannot_be(rng):
    kind, name, part = rng.choice(MADE_UP), rng.choice(NAMES), rng.choice(["tail", "shell", "horn", "crest", "mane"])
    question = f"Every {kind} has a {part}. {name}'s pet has no {part}. Can the pet be a {kind}?"
    return Example(question, f"No. Every {kind} has a {part}, and the pet has none.")


@template("logic")
def months_later(rng):
    month, n = rng.randrange(12), rng.randint(2, 7)
    later = MONTHS[(month + n) % 12]
    return Example(f"It is {MONTHS[month]}. Which month is it {n} months later?", f"{n} months later it is {later}.")


@template("logic", "validate")
def compass_turn(rng):
    name, facing, turn = rng.choice(NAMES), rng.randrange(4), rng.choice([(1, "right"), (3, "left"), (2, "around")])
    winds = ["north", "east", "south", "west"]
    then = winds[(facing + turn[0]) % 4]
    question = f"{name} faces {winds[facing]} and turns {turn[1]}. Which way does {name} face now?"
    return Example(question, f"From {winds[facing]}, turning {turn[1]}, {name} faces {then}.")


@template("logic", "test")
def carried_along(rng):
    thing, box, room, name = rng.choice(THINGS), rng.choice(["cup", "bag", "tin"]), rng.choice(ROOMS), rng.choice(NAMES)
    question = f"The {thing} is in the {box}. {name} takes the {box} to the {room}. Where is the {thing} now?"
    return Example(question, f"The {thing} is in the {box}, and the {box} is in the {room}.")
