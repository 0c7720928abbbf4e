"""Word problems with a short worked answer that ends in the number, and short mathematics."""

import math

from templates import NAMES, template

GOODS = ["pencils", "stickers", "apples", "marbles", "postcards", "buttons", "muffins", "tickets", "shells", "badges"]


@template("word_problem")
def bought_and_given(rng):
    boxes, each, name = rng.randint(2, 9), rng.randint(3, 12), rng.choice(NAMES)
    given = rng.randint(1, boxes * each - 1)
    question = f"{name} buys {boxes} boxes of {each} {rng.choice(GOODS)} and gives away {given}. How many are left?"
    total = boxes * each
    return question, (
        f"{boxes} * {each} = {total}. {total} - {given} = {total - given}. The answer is {total - given}."
    )


@template("word_problem")
def shared_equally(rng):
    friends, each = rng.randint(2, 9), rng.randint(2, 12)
    total, goods = friends * each, rng.choice(GOODS)
    question = f"{friends} friends share {total} {goods} equally. How many {goods} does each friend get?"
    return question, f"{total} / {friends} = {each}. The answer is {each}."


@template("word_problem")
def price_and_change(rng):
    price, count = rng.randint(2, 9), rng.randint(2, 6)
    note = rng.choice([n for n in (20, 50, 100) if n > price * count])
    cost = price * count
    question = (
        f"A notebook costs {price} dollars. Someone buys {count} and pays with a {note} dollar note. How much change?"
    )
    return question, f"{price} * {count} = {cost}. {note} - {cost} = {note - cost}. The answer is {note - cost}."


@template("word_problem")
def twice_as_many(rng):
    first, second = rng.sample(NAMES, 2)
    n, times = rng.randint(3, 25), rng.choice([2, 3, 4])
    word = {2: "twice", 3: "three times", 4: "four times"}[times]
    question = f"{first} has {n} {rng.choice(GOODS)}. {second} has {word} as many. How many do they have together?"
    return question, (
        f"{times} * {n} = {times * n}. {n} + {times * n} = {n + times * n}. The answer is {n + times * n}."
    )


@template("word_problem")
def saved_weekly(rng):
    start, weekly, weeks, name = rng.randint(5, 40), rng.randint(2, 12), rng.randint(3, 9), rng.choice(NAMES)
    saved = weekly * weeks
    question = f"{name} has {start} euros and saves {weekly} euros a week. How many euros after {weeks} weeks?"
    return (
        question,
        f"{weekly} * {weeks} = {saved}. {start} + {saved} = {start + saved}. The answer is {start + saved}.",
    )


@template("word_problem")
def pages_left(rng):
    daily, days = rng.randint(8, 30), rng.randint(3, 7)
    pages = daily * days + rng.randint(10, 90)
    read = daily * days
    question = (
        f"A book has {pages} pages. {rng.choice(NAMES)} reads {daily} pages a "
        f"day for {days} days. How many pages are left?"
    )
    return question, f"{daily} * {days} = {read}. {pages} - {read} = {pages - read}. The answer is {pages - read}."


@template("word_problem")
def distance_by_bus(rng):
    speed, hours = rng.choice([30, 40, 50, 60, 80, 90]), rng.randint(2, 6)
    question = f"A bus drives at {speed} km per hour for {hours} hours. How many kilometres does it cover?"
    return question, f"{speed} * {hours} = {speed * hours}. The answer is {speed * hours}."


@template("word_problem")
def rows_of_chairs(rng):
    rows, chairs, taken = rng.randint(5, 12), rng.randint(6, 14), rng.randint(5, 28)
    total = rows * chairs
    question = f"A hall has {rows} rows of {chairs} chairs, and {taken} chairs are taken. How many are free?"
    return question, (
        f"{rows} * {chairs} = {total}. {total} - {taken} = {total - taken}. The answer is {total - taken}."
    )


@template("word_problem")
def age_difference(rng):
    first, second = rng.sample(NAMES, 2)
    age, more, years = rng.randint(6, 30), rng.randint(2, 15), rng.randint(2, 9)
    older = age + more
    question = f"{first} is {age} and {second} is {more} years older. How old will {second} be in {years} years?"
    return question, f"{age} + {more} = {older}. {older} + {years} = {older + years}. The answer is {older + years}."


@template("word_problem")
def recipe_eggs(rng):
    eggs, cakes, box = rng.randint(2, 5), rng.randint(4, 12), rng.choice([6, 10, 12])
    need = eggs * cakes
    boxes = math.ceil(need / box)
    question = f"One cake takes {eggs} eggs. Eggs come in boxes of {box}. How many boxes are needed for {cakes} cakes?"
    return question, f"{eggs} * {cakes} = {need}. {need} / {box} rounded up is {boxes}. The answer is {boxes}."


@template("word_problem")
def half_then_more(rng):
    half, more = rng.randint(6, 40), rng.randint(2, 15)
    goods = rng.choice(GOODS)
    question = (
        f"A shop has {2 * half} {goods}. It sells half of them and then receives {more}. How many {goods} has it now?"
    )
    return question, f"{2 * half} / 2 = {half}. {half} + {more} = {half + more}. The answer is {half + more}."


@template("word_problem")
def wages(rng):
    hourly, hours, days = rng.randint(9, 20), rng.randint(3, 8), rng.randint(2, 6)
    daily = hourly * hours
    question = (
        f"{rng.choice(NAMES)} earns {hourly} dollars an hour and works {hours} hours a day. How much in {days} days?"
    )
    return question, f"{hourly} * {hours} = {daily}. {daily} * {days} = {daily * days}. The answer is {daily * days}."


@template("word_problem")
def legs_on_a_farm(rng):
    cows, hens = rng.randint(2, 15), rng.randint(3, 20)
    legs = 4 * cows + 2 * hens
    question = f"A farm has {cows} cows and {hens} hens. How many legs do they have in all?"
    return question, f"4 * {cows} = {4 * cows}. 2 * {hens} = {2 * hens}. Together {legs}. The answer is {legs}."


@template("word_problem")
def minutes_of_practice(rng):
    minutes, days = rng.choice([15, 30, 45]), rng.choice([4, 8, 12])
    hours = minutes * days // 60
    question = f"{rng.choice(NAMES)} practises {minutes} minutes a day. How many hours is that in {days} days?"
    return (
        question,
        f"{minutes} * {days} = {minutes * days} minutes. {minutes * days} / 60 = {hours}. The answer is {hours}.",
    )


@template("word_problem", "validate")
def tank_filling(rng):
    rate, minutes, start = rng.randint(3, 12), rng.randint(4, 15), rng.randint(10, 60)
    added = rate * minutes
    question = (
        f"A tank holds {start} litres. A tap adds {rate} litres a minute. How "
        f"many litres are there after {minutes} minutes?"
    )
    return (
        question,
        f"{rate} * {minutes} = {added}. {start} + {added} = {start + added}. The answer is {start + added}.",
    )


@template("word_problem", "validate")
def team_points(rng):
    wins, draws = rng.randint(3, 14), rng.randint(1, 9)
    points = 3 * wins + draws
    question = (
        f"A win gives 3 points and a draw gives 1. A team has {wins} wins and {draws} draws. How many points has it?"
    )
    return question, f"3 * {wins} = {3 * wins}. {3 * wins} + {draws} = {points}. The answer is {points}."


@template("word_problem", "validate")
def rope_pieces(rng):
    piece, count, rest = rng.randint(3, 9), rng.randint(4, 12), rng.randint(1, 2)
    length = piece * count + rest
    question = f"A rope of {length} metres is cut into pieces of {piece} metres. How many metres are left over?"
    return question, (
        f"{count} * {piece} = {piece * count}. {length} - {piece * count} = {rest}. The answer is {rest}."
    )


@template("word_problem", "test")
def garden_fence(rng):
    long, wide, price = rng.randint(8, 30), rng.randint(4, 7), rng.randint(2, 9)
    around = 2 * (long + wide)
    question = (
        f"A garden is {long} m long and {wide} m wide. A fence costs {price} "
        f"dollars a metre. What does it cost all round?"
    )
    return (
        question,
        f"2 * ({long} + {wide}) = {around}. {around} * {price} = {around * price}. The answer is {around * price}.",
    )


@template("word_problem", "test")
def train_seats(rng):
    cars, seats, get_off = rng.randint(3, 9), rng.randint(20, 60), rng.randint(5, 50)
    full = cars * seats
    question = (
        f"A full train has {cars} cars with {seats} seats each. At a stop "
        f"{get_off} people leave. How many people remain?"
    )
    return (
        question,
        f"{cars} * {seats} = {full}. {full} - {get_off} = {full - get_off}. The answer is {full - get_off}.",
    )


@template("word_problem", "test")
def discount(rng):
    price, percent = rng.choice([20, 40, 60, 80, 120, 200]), rng.choice([10, 25, 50])
    off = price * percent // 100
    question = f"A jacket costs {price} dollars and is sold {percent} percent cheaper. What does it cost now?"
    return (
        question,
        f"{percent} percent of {price} is {off}. {price} - {off} = {price - off}. The answer is {price - off}.",
    )


@template("mathematics")
def sum_of_two(rng):
    a, b = rng.randint(12, 480), rng.randint(12, 480)
    return f"What is {a} + {b}?", f"{a} + {b} = {a + b}. The answer is {a + b}."


@template("mathematics")
def difference_of_two(rng):
    b, d = rng.randint(12, 300), rng.randint(5, 300)
    return f"Calculate {b + d} - {b}.", f"{b + d} - {b} = {d}. The answer is {d}."


@template("mathematics")
def product_of_two(rng):
    a, b = rng.randint(3, 12), rng.randint(11, 40)
    tens, ones = b // 10 * 10, b % 10
    return f"What is {a} times {b}?", f"{a} * {tens} + {a} * {ones} = {a * tens} + {a * ones}. The answer is {a * b}."


@template("mathematics")
def linear_equation(rng):
    a, x, b = rng.randint(2, 9), rng.randint(1, 12), rng.randint(1, 20)
    return f"Solve {a}x + {b} = {a * x + b} for x.", f"{a}x = {a * x}, so x = {a * x} / {a}. The answer is {x}."


@template("mathematics")
def power(rng):
    base, exponent = rng.choice([(b, e) for b in range(2, 12) for e in (2, 3) if b**e < 1400])
    product = " * ".join([str(base)] * exponent)
    return f"Compute {base}^{exponent}.", f"{base}^{exponent} = {product}. The answer is {base**exponent}."


@template("mathematics")
def percent_of(rng):
    percent, base = rng.choice([10, 20, 25, 50, 75]), rng.choice([40, 60, 80, 120, 160, 200, 400])
    value = percent * base // 100
    return (
        f"What is {percent}% of {base}?",
        f"{percent} * {base} / 100 = {percent * base} / 100. The answer is {value}.",
    )


@template("mathematics")
def mean_of_three(rng):
    mean, a, b = rng.randint(5, 30), rng.randint(1, 4), rng.randint(1, 4)
    x, y, z = mean - a, mean + a + b, mean - b
    return f"Find the mean of {x}, {y} and {z}.", f"({x} + {y} + {z}) / 3 = {3 * mean} / 3. The answer is {mean}."


@template("mathematics")
def remainder(rng):
    n, d = rng.randint(20, 99), rng.randint(3, 9)
    return f"What remains when {n} is divided by {d}?", f"{n // d} * {d} = {n // d * d}. The answer is {n % d}."


@template("mathematics")
def order_of_operations(rng):
    a, b, c = rng.randint(2, 20), rng.randint(2, 9), rng.randint(2, 9)
    question = f"Evaluate {a} + {b} * {c}."
    return question, f"{b} * {c} = {b * c}. {a} + {b * c} = {a + b * c}. The answer is {a + b * c}."


@template("mathematics", "validate")
def rectangle_area(rng):
    a, b = rng.randint(3, 15), rng.randint(3, 15)
    return f"A rectangle has sides {a} and {b}. What is its area?", f"{a} * {b} = {a * b}. The answer is {a * b}."


@template("mathematics", "validate")
def greatest_divisor(rng):
    g, (a, b) = rng.randint(2, 12), rng.choice([(2, 3), (3, 4), (3, 5), (4, 5), (5, 7)])
    question = f"What is the greatest common divisor of {g * a} and {g * b}?"
    return question, f"{g * a} = {g} * {a} and {g * b} = {g} * {b}. The answer is {g}."


@template("mathematics", "validate")
def fraction_of(rng):
    top, bottom = rng.choice([(2, 3), (3, 4), (2, 5), (3, 5), (5, 6), (3, 8)])
    part = rng.randint(2, 12)
    n = bottom * part
    return (
        f"What is {top}/{bottom} of {n}?",
        f"{n} / {bottom} = {part}. {top} * {part} = {top * part}. The answer is {top * part}.",
    )


@template("mathematics", "test")
def clock_time(rng):
    hour, minute, lasts = rng.randint(1, 10), rng.choice([5, 10, 15, 20, 25]), rng.choice([40, 45, 50, 55])
    over = minute + lasts - 60
    if over < 0:
        return f"A film starts at {hour}:{minute:02} and lasts {lasts} minutes. When does it end?", (
            f"{minute} + {lasts} = {minute + lasts}. The answer is {hour}:{minute + lasts}."
        )
    return f"A film starts at {hour}:{minute:02} and lasts {lasts} minutes. When does it end?", (
        f"{minute} + {lasts} = 60 + {over}. The answer is {hour + 1}:{over:02}."
    )


@template("mathematics", "test")
def triangle_angle(rng):
    a, b = rng.randint(20, 80), rng.randint(20, 80)
    question = f"Two angles of a triangle are {a} and {b} degrees. How many degrees is the third?"
    return question, f"{a} + {b} = {a + b}. 180 - {a + b} = {180 - a - b}. The answer is {180 - a - b}."


@template("mathematics", "test")
def next_in_sequence(rng):
    start, step = rng.randint(1, 20), rng.randint(2, 9)
    terms = [start + i * step for i in range(5)]
    question = f"What number comes next: {', '.join(map(str, terms[:4]))}?"
    return question, f"Each term grows by {step}. {terms[3]} + {step} = {terms[4]}. The answer is {terms[4]}."
