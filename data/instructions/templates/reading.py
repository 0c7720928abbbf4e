"""Short texts to read, and short inferences."""

from templates import NAMES, choice, template

CITIES = ["Lyon", "Porto", "Graz", "Bergen", "Turin", "Ghent", "Malmo", "Bilbao", "Basel", "Krakow"]
JOBS = ["nurse", "teacher", "pilot", "carpenter", "chef", "lawyer", "painter", "engineer", "farmer", "librarian"]
PETS = ["cat", "dog", "rabbit", "parrot", "hamster", "turtle", "goldfish", "pony"]
COLORS = ["red", "blue", "green", "yellow", "white", "black", "purple", "orange"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
KINDS = {
    "fruit": ["apple", "pear", "plum", "cherry", "grape"],
    "tool": ["hammer", "saw", "drill", "wrench", "chisel"],
    "metal": ["iron", "copper", "zinc", "tin", "nickel"],
    "instrument": ["violin", "flute", "drum", "harp", "trumpet"],
    "bird": ["robin", "crow", "heron", "finch", "owl"],
}
REASONS = [
    ("the bus was late", "missed the film"),
    ("it was raining", "took an umbrella"),
    ("the shop was closed", "bought no bread"),
    ("the road was icy", "drove slowly"),
    ("the battery was empty", "could not phone"),
    ("the soup was cold", "warmed it up"),
]
MADE_UP = ["blick", "dax", "fep", "gorp", "mib", "tupa", "wug", "zorn", "lorch", "kiv"]


@template("reading")
def who_lives_where(rng):
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(CITIES, 2)
    person, city = rng.choice([(a, x), (b, y)])
    return f"{a} lives in {x}. {b} lives in {y}. Where does {person} live?", f"{person} lives in {city}."


@template("reading")
def who_has_the_job(rng):
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(JOBS, 2)
    person, job = rng.choice([(a, x), (b, y)])
    return f"{a} works as a {x} and {b} as a {y}. Who is the {job}?", f"{person} is the {job}."


@template("reading")
def moved_object(rng):
    name, (first, second) = rng.choice(NAMES), rng.sample(["kitchen", "garden", "cellar", "attic", "garage", "hall"], 2)
    thing = rng.choice(["lamp", "ladder", "radio", "basket", "bicycle", "kettle"])
    question = f"The {thing} was in the {first}. {name} carried it to the {second}. Where is the {thing} now?"
    return question, f"The {thing} is in the {second}."


@template("reading")
def who_owns_the_pet(rng):
    people, pets = rng.sample(NAMES, 3), rng.sample(PETS, 3)
    text = " ".join(f"{name} has a {pet}." for name, pet in zip(people, pets, strict=True))
    which = rng.randrange(3)
    return f"{text} Whose is the {pets[which]}?", f"The {pets[which]} belongs to {people[which]}."


@template("reading")
def color_of_the_thing(rng):
    things, colors = rng.sample(["scarf", "chair", "kite", "cup", "door", "boat"], 2), rng.sample(COLORS, 2)
    which = rng.randrange(2)
    question = f"The {things[0]} is {colors[0]}, the {things[1]} is {colors[1]}. What color is the {things[which]}?"
    return question, f"The {things[which]} is {colors[which]}."


@template("reading", "validate")
def who_came_first(rng):
    a, b, c = rng.sample(NAMES, 3)
    return f"{a} arrived before {b}, and {b} before {c}. Who arrived last?", f"{c} arrived last."


@template("reading", "validate")
def what_costs(rng):
    things, prices = rng.sample(["tea", "juice", "soup", "cake", "bread", "cheese"], 3), rng.sample(range(2, 10), 3)
    text = " ".join(f"The {thing} costs {price} euros." for thing, price in zip(things, prices, strict=True))
    which = rng.randrange(3)
    return f"{text} What costs {prices[which]} euros?", f"The {things[which]} costs {prices[which]} euros."


@template("reading", "test")
def weekly_plan(rng):
    name, days = rng.choice(NAMES), rng.sample(DAYS, 2)
    doing = rng.sample(["swims", "cooks", "paints", "runs", "reads", "gardens"], 2)
    which = rng.randrange(2)
    question = f"On {days[0]} {name} {doing[0]}, on {days[1]} {name} {doing[1]}. What happens on {days[which]}?"
    return question, f"On {days[which]} {name} {doing[which]}."


@template("reading", "test")
def reason_given(rng):
    name, (cause, effect) = rng.choice(NAMES), rng.choice(REASONS)
    return f"Because {cause}, {name} {effect}. Why is it that {name} {effect}?", f"Because {cause}."


@template("logic")
def taller_chain(rng):
    a, b, c = rng.sample(NAMES, 3)
    return (
        f"{a} is taller than {b}. {b} is taller than {c}. Who is the shortest?",
        f"{c} is shorter than {b}, so the shortest is {c}.",
    )


@template("logic")
def syllogism(rng):
    a, b, c = rng.sample(MADE_UP, 3)
    return (
        f"All {a}s are {b}s. All {b}s are {c}s. Is every {a} a {c}?",
        f"Yes. Every {a} is a {b}, and every {b} is a {c}.",
    )


@template("logic")
def no_member(rng):
    a, b = rng.sample(MADE_UP, 2)
    name = rng.choice(NAMES)
    return f"No {a} is a {b}. {name} is a {a}. Is {name} a {b}?", f"No. {name} is a {a}, and no {a} is a {b}."


@template("logic")
def odd_one_out(rng):
    kind, other = rng.sample(sorted(KINDS), 2)
    words = [*rng.sample(KINDS[kind], 3), rng.choice(KINDS[other])]
    odd = words[-1]
    rng.shuffle(words)
    question = f"Which word does not belong: {', '.join(words)}?"
    return question, f"The others are each a kind of {kind}, so the answer is {odd}."


@template("logic")
def days_later(rng):
    day, n = rng.randrange(7), rng.randint(2, 6)
    then = DAYS[(day + n) % 7]
    return (
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
    return question, f"The button is {color}, so the {thing}. The answer is the {thing.split()[0]}."


@template("logic", "test")
def heavier_of_three(rng):
    a, b, c = rng.sample(["stone", "crate", "barrel", "sack", "trunk", "anvil", "log"], 3)
    question = f"The {a} weighs less than the {b}. The {c} weighs more than the {b}. Which is the heaviest?"
    return question, f"The {c} weighs more than the {b}, which weighs more than the {a}. The answer is the {c}."
