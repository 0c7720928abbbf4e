"""Short mathematics whose answer is worded by hand, with the expression of the result where there is one."""

import math

from templates import NAMES, Example, template


@template("mathematics")
def product_of_two(rng):
    a, b = rng.randint(3, 12), rng.randint(11, 40)
    tens, ones = b // 10 * 10, b % 10
    steps = f"{a} * {tens} + {a} * {ones} = {a * tens} + {a * ones}"
    return Example(f"What is {a} times {b}?", f"{steps}. The answer is {a * b}.", f"{a} * {b}")


@template("mathematics")
def linear_equation(rng):
    a, x, b = rng.randint(2, 9), rng.randint(1, 12), rng.randint(1, 20)
    answer = f"{a}x = {a * x}, so x = {a * x} / {a}. The answer is {x}."
    return Example(f"Solve {a}x + {b} = {a * x + b} for x.", answer, f"({a * x + b} - {b}) / {a}")


@template("mathematics")
def equation_with_difference(rng):
    a, x = rng.randint(3, 60), rng.randint(4, 90)
    return Example(f"Find y if y - {a} = {x}.", f"y = {x} + {a}. The answer is {x + a}.", f"{x} + {a}")


@template("mathematics")
def power(rng):
    base, exponent = rng.choice([(b, e) for b in range(2, 16) for e in (2, 3) if b**e < 1400])
    product = " * ".join([str(base)] * exponent)
    answer = f"{base}^{exponent} = {product}. The answer is {base**exponent}."
    return Example(f"Compute {base}^{exponent}.", answer, f"{base} ** {exponent}")


@template("mathematics")
def remainder(rng):
    n, d = rng.randint(20, 99), rng.randint(3, 9)
    answer = f"{n // d} * {d} = {n // d * d}. The answer is {n % d}."
    return Example(f"What remains when {n} is divided by {d}?", answer, f"{n} % {d}")


@template("mathematics")
def square_root(rng):
    root = rng.randint(2, 40)
    return Example(f"Which positive number squared gives {root * root}?", f"{root}^2 = {root * root}. It is {root}.")


@template("mathematics")
def nearest_ten(rng):
    n = rng.choice([n for n in range(11, 500) if n % 10 not in (0, 5)])
    below = n // 10 * 10
    near = below if n % 10 < 5 else below + 10
    return Example(f"Round {n} to the nearest ten.", f"{n} lies between {below} and {below + 10}. It rounds to {near}.")


@template("mathematics")
def largest_of_four(rng):
    numbers = rng.sample(range(10, 500), 4)
    listed = ", ".join(map(str, numbers))
    return Example(f"Which is the largest of {listed}?", f"The largest of these numbers is {max(numbers)}.")


@template("mathematics")
def even_or_odd(rng):
    n = rng.randint(11, 900)
    return Example(f"Is {n} even or odd?", f"{n} ends in {n % 10}, so it is {'odd' if n % 2 else 'even'}.")


@template("word_problem")
def recipe_eggs(rng):
    eggs, cakes, box = rng.randint(2, 5), rng.randint(4, 12), rng.choice([6, 10, 12])
    need = eggs * cakes
    boxes = math.ceil(need / box)
    question = f"One cake takes {eggs} eggs. Eggs come in boxes of {box}. How many boxes are needed for {cakes} cakes?"
    answer = f"{eggs} * {cakes} = {need}. {need} / {box} rounded up is {boxes}. The answer is {boxes}."
    return Example(question, answer)


@template("word_problem")
def opening_hours(rng):
    name, start, lasts = rng.choice(NAMES), rng.randint(6, 12), rng.randint(2, 9)
    question = f"{name} works from {start}:00 to {start + lasts}:00. How many hours is that?"
    answer = f"{start + lasts} - {start} = {lasts}. The answer is {lasts}."
    return Example(question, answer, f"{start + lasts} - {start}")


@template("word_problem", "validate")
def rope_pieces(rng):
    piece, count, rest = rng.randint(3, 9), rng.randint(4, 12), rng.randint(1, 2)
    length = piece * count + rest
    question = f"A rope of {length} metres is cut into pieces of {piece} metres. How many metres are left over?"
    answer = f"{count} * {piece} = {piece * count}. {length} - {piece * count} = {rest}. The answer is {rest}."
    return Example(question, answer, f"{length} % {piece}")


@template("mathematics", "validate")
def greatest_divisor(rng):
    g, (a, b) = rng.randint(2, 12), rng.choice([(2, 3), (3, 4), (3, 5), (4, 5), (5, 7)])
    question = f"What is the greatest common divisor of {g * a} and {g * b}?"
    return Example(question, f"{g * a} = {g} * {a} and {g * b} = {g} * {b}. The answer is {g}.")


@template("mathematics", "test")
def clock_time(rng):
    hour, minute, lasts = rng.randint(1, 10), rng.choice([5, 10, 15, 20, 25]), rng.choice([40, 45, 50, 55])
    question = f"A film starts at {hour}:{minute:02} and lasts {lasts} minutes. When does it end?"
    over = minute + lasts - 60
    if over < 0:
        return Example(question, f"{minute} + {lasts} = {minute + lasts}. The answer is {hour}:{minute + lasts}.")
    return Example(question, f"{minute} + {lasts} = 60 + {over}. The answer is {hour + 1}:{over:02}.")


@template("mathematics", "test")
def next_in_sequence(rng):
    start, step = rng.randint(1, 20), rng.randint(2, 9)
    *_, before, last = terms = [start + i * step for i in range(4)]
    question = f"What number comes next: {', '.join(map(str, terms))}?"
    answer = f"Each term grows by {step}. {last} + {step} = {last + step}. The answer is {last + step}."
    return Example(question, answer, f"{last} + {last} - {before}")
