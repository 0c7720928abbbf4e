"""Short texts to read."""

from templates import NAMES, Example, template

CITIES = ["Lyon", "Porto", "Graz", "Bergen", "Turin", "Ghent", "Malmo", "Bilbao", "Basel", "Krakow"]
JOBS = ["nurse", "teacher", "pilot", "carpenter", "chef", "lawyer", "painter", "engineer", "farmer", "librarian"]
PETS = ["cat", "dog", "rabbit", "parrot", "hamster", "turtle", "goldfish", "pony"]
COLORS = ["red", "blue", "green", "yellow", "white", "black", "purple", "orange"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
REASONS = [
    ("the bus was late", "missed the film"),
    ("it was raining", "took an umbrella"),
    ("the shop was closed", "bought no bread"),
    ("the road was icy", "drove slowly"),
    ("the battery was empty", "could not phone"),
    ("the soup was cold", "warmed it up"),
]
ROOMS = ["kitchen", "garden", "cellar", "attic", "garage", "hall"]


@template("reading")
def who_lives_where(rng):
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(CITIES, 2)
    person, city = rng.choice([(a, x), (b, y)])
    return Example(f"{a} lives in {x}. {b} lives in {y}. Where does {person} live?", f"{person} lives in {city}.")


@template("reading")
def who_has_the_job(rng):
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(JOBS, 2)
    person, job = rng.choice([(a, x), (b, y)])
    return Example(f"{a} works as a {x} and {b} as a {y}. Who is the {job}?", f"{person} is the {job}.")


@template("reading")
def moved_object(rng):
    name, (first, second) = rng.choice(NAMES), rng.sample(ROOMS, 2)
    thing = rng.choice(["lamp", "ladder", "radio", "basket", "bicycle", "kettle"])
    question = f"The {thing} was in the {first}. {name} carried it to the {second}. Where is the {thing} now?"
    return Example(question, f"The {thing} is in the {second}.")


@template("reading")
def who_owns_the_pet(rng):
    people, pets = rng.sample(NAMES, 3), rng.sample(PETS, 3)
    text = " ".join(f"{name} has a {pet}." for name, pet in zip(people, pets, strict=True))
    which = rng.randrange(3)
    return Example(f"{text} Whose is the {pets[which]}?", f"The {pets[which]} belongs to {people[which]}.")


@template("reading")
def color_of_the_thing(rng):
    things, colors = rng.sample(["scarf", "chair", "kite", "cup", "door", "boat"], 2), rng.sample(COLORS, 2)
    which = rng.randrange(2)
    question = f"The {things[0]} is {colors[0]}, the {things[1]} is {colors[1]}. What color is the {things[which]}?"
    return Example(question, f"The {things[which]} is {colors[which]}.")


@template("reading", "validate")
def who_came_first(rng):
    a, b, c = rng.sample(NAMES, 3)
    return Example(f"{a} arrived before {b}, and {b} before {c}. Who arrived last?", f"{c} arrived last.")


@template("reading", "validate")
def what_costs(rng):
    things, prices = rng.sample(["tea", "juice", "soup", "cake", "bread", "cheese"], 3), rng.sample(range(2, 10), 3)
    text = " ".join(f"The {thing} costs {price} euros." for thing, price in zip(things, prices, strict=True))
    which = rng.randrange(3)
    return Example(f"{text} What costs {prices[which]} euros?", f"The {things[which]} costs {prices[which]} euros.")


@template("reading", "test")
def weekly_plan(rng):
    name, days = rng.choice(NAMES), rng.sample(DAYS, 2)
    doing = rng.sample(["swims", "cooks", "paints", "runs", "reads", "gardens"], 2)
    which = rng.randrange(2)
    question = f"On {days[0]} {name} {doing[0]}, on {days[1]} {name} {doing[1]}. What happens on {days[which]}?"
    return Example(question, f"On {days[which]} {name} {doing[which]}.")


@template("reading", "test")
def reason_given(rng):
    name, (cause, effect) = rng.choice(NAMES), rng.choice(REASONS)
    return Example(f"Because {cause}, {name} {effect}. Why is it that {name} {effect}?", f"Because {cause}.")


@template("reading")
def who_is_older(rng):
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(range(5, 80), 2)
    older = a if x > y else b
    question = f"{a} is {x} years old and {b} is {y}. Who is older?"
    return Example(question, f"{max(x, y)} is more than {min(x, y)}, so {older} is older.")


@template("reading")
def what_was_bought(rng):
    (a, b), (x, y) = rng.sample(NAMES, 2), rng.sample(["plums", "cheese", "honey", "leeks", "flour", "fish"], 2)
    person, thing = rng.choice([(a, x), (b, y)])
    question = f"At the market {a} bought {x} and {b} bought {y}. What did {person} bring home?"
    return Example(question, f"{person} brought home {thing}.")


@template("reading")
def means_of_travel(rng):
    name, cities, means = rng.choice(NAMES), rng.sample(CITIES, 3), rng.sample(["train", "bus", "boat", "car"], 2)
    which = rng.randrange(2)
    question = (
        f"{name} went from {cities[0]} to {cities[1]} by {means[0]} and on to {cities[2]} by {means[1]}. "
        f"How did {name} reach {cities[which + 1]}?"
    )
    return Example(question, f"{name} reached {cities[which + 1]} by {means[which]}.")


@template("reading")
def which_opens_first(rng):
    places, hours = (
        rng.sample(["bakery", "bank", "library", "museum", "market", "pool"], 2),
        rng.sample(range(5, 12), 2),
    )
    first = places[0] if hours[0] < hours[1] else places[1]
    question = f"The {places[0]} opens at {hours[0]} and the {places[1]} at {hours[1]}. Which of the two opens first?"
    return Example(question, f"The {first} opens first, at {min(hours)}.")


@template("reading")
def weather_diary(rng):
    days, skies = rng.sample(DAYS, 3), rng.sample(["rained", "snowed", "was sunny", "was foggy", "hailed"], 3)
    entries = ", ".join(f"on {day} it {sky}" for day, sky in zip(days, skies, strict=True))
    which = rng.randrange(3)
    return Example(f"A diary says: {entries}. On which day was it that it {skies[which]}?", f"It was on {days[which]}.")


@template("reading", "validate")
def who_sent_the_letter(rng):
    a, b, c = rng.sample(NAMES, 3)
    question = f"{a} writes a letter to {b}. {b} writes one to {c}. Whose letter does {c} get?"
    return Example(question, f"{c} gets the letter of {b}.")


@template("reading", "test")
def who_has_the_ball(rng):
    a, b, c = rng.sample(NAMES, 3)
    return Example(f"{a} throws a ball to {b}, who throws it to {c}. Who has the ball?", f"{c} has the ball.")
