"""Word problems and short mathematics: a question with numbers, and the expression whose steps are the answer."""

from templates import NAMES, Example, Template, add
from templates.steps import drawn

GOODS = "pencils stickers apples marbles postcards buttons muffins tickets shells badges".split()


def upto(last: int, first: int = 2) -> range:
    return range(first, last + 1)


# name -> (split, question, expression, values of its slots); {name}, {other} and {goods} are drawn for all
WORD_PROBLEMS = {
    "bought_and_given": ("train", "{name} buys {a} boxes of {b} {goods} and gives away {c}. How many are left?",
        "{a} * {b} - {c}", {"a": upto(9), "b": upto(12, 3), "c": upto(60)}),
    "shared_equally": ("train", "{a} friends share {b} {goods} equally. How many {goods} does each friend get?",
        "{b} / {a}", {"a": upto(9), "b": upto(108, 8)}),
    "price_and_change": ("train",
        "A notebook costs {a} dollars. Someone buys {b} and pays with a {c} dollar note. How much change?",
        "{c} - {a} * {b}", {"a": upto(9), "b": upto(6), "c": (20, 50, 100)}),
    "twice_as_many": ("train",
        "{name} has {a} {goods}. {other} has twice as many. How many do they have together?",
        "{a} + 2 * {a}", {"a": upto(30, 3)}),
    "saved_weekly": ("train",
        "{name} has {a} euros and saves {b} euros a week. How many euros after {c} weeks?",
        "{a} + {b} * {c}", {"a": upto(40, 5), "b": upto(12), "c": upto(9, 3)}),
    "pages_left": ("train",
        "A book has {a} pages. {name} reads {b} pages a day for {c} days. How many pages are left?",
        "{a} - {b} * {c}", {"a": upto(300, 80), "b": upto(30, 8), "c": upto(7, 3)}),
    "distance_by_bus": ("train",
        "A bus drives at {a} km per hour for {b} hours. How many kilometres does it cover?",
        "{a} * {b}", {"a": (30, 40, 45, 50, 60, 65, 70, 80, 90), "b": upto(7)}),
    "rows_of_chairs": ("train", "A hall has {a} rows of {b} chairs, and {c} chairs are taken. How many are free?",
        "{a} * {b} - {c}", {"a": upto(12, 5), "b": upto(14, 6), "c": upto(28, 5)}),
    "age_difference": ("train",
        "{name} is {a} and {other} is {b} years older. How old will {other} be in {c} years?",
        "{a} + {b} + {c}", {"a": upto(30, 6), "b": upto(15), "c": upto(9)}),
    "half_then_more": ("train",
        "A shop has {a} {goods}. It sells half of them and then receives {b}. How many {goods} has it now?",
        "{a} / 2 + {b}", {"a": upto(80, 12), "b": upto(15)}),
    "wages": ("train", "{name} earns {a} dollars an hour and works {b} hours a day. How much in {c} days?",
        "{a} * {b} * {c}", {"a": upto(20, 9), "b": upto(8, 3), "c": upto(6)}),
    "legs_on_a_farm": ("train", "A farm has {a} cows and {b} hens. How many legs do they have in all?",
        "4 * {a} + 2 * {b}", {"a": upto(15), "b": upto(20, 3)}),
    "minutes_of_practice": ("train", "{name} practises {a} minutes a day. How many hours is that in {b} days?",
        "{a} * {b} / 60", {"a": (15, 20, 30, 45), "b": (4, 8, 12)}),
    "trays_of_rolls": ("train",
        "A baker fills {a} trays with {b} rolls each and burns {c} rolls. How many rolls can be sold?",
        "{a} * {b} - {c}", {"a": upto(9), "b": upto(20, 6), "c": upto(15)}),
    "two_shelves": ("train",
        "One shelf holds {a} books, another {b}. {name} takes {c} books away. How many stay on the shelves?",
        "{a} + {b} - {c}", {"a": upto(60, 10), "b": upto(60, 10), "c": upto(20)}),
    "dozen_eggs": ("train", "{name} buys {a} dozen eggs and uses {b} of them. How many eggs remain?",
        "{a} * 12 - {b}", {"a": upto(8), "b": upto(20, 3)}),
    "ticket_groups": ("train",
        "Adults pay {a} euros and children {b} euros. What do {c} adults and {d} children pay together?",
        "{c} * {a} + {d} * {b}", {"a": upto(14, 8), "b": upto(7, 3), "c": upto(6), "d": upto(8)}),
    "equal_bags": ("train", "{name} packs {a} {goods} into bags of {b}. How many bags are full?",
        "{a} / {b}", {"a": upto(120, 12), "b": upto(12)}),
    "temperature_rise": ("train",
        "At noon it is {a} degrees, {b} degrees more than at dawn. How many degrees was it at dawn?",
        "{a} - {b}", {"a": upto(35, 12), "b": upto(14)}),
    "parking_levels": ("train",
        "A car park has {a} levels with {b} places each. {c} places are empty. How many cars are parked?",
        "{a} * {b} - {c}", {"a": upto(6), "b": upto(60, 20), "c": upto(50, 5)}),
    "shells_shared": ("train",
        "{name} collects {a} shells, {other} collects {b}, and they share them equally between 2 friends. "
        "How many does each friend get?",
        "({a} + {b}) / 2", {"a": upto(40, 5), "b": upto(40, 5)}),
    "typing_speed": ("train", "{name} types {a} words a minute. How many words are typed in {b} minutes?",
        "{a} * {b}", {"a": upto(70, 25), "b": upto(12)}),
    "weeks_of_days": ("train", "A course lasts {a} weeks and {b} days. How many days is that?",
        "{a} * 7 + {b}", {"a": upto(20), "b": upto(6)}),
    "rent_and_food": ("train",
        "{name} earns {a} dollars, pays {b} for rent and {c} for food. How many dollars remain?",
        "{a} - {b} - {c}", {"a": range(900, 3000, 50), "b": range(300, 900, 50), "c": range(100, 500, 20)}),
    "paint_rooms": ("train",
        "A room takes {a} litres of paint. How many litres do {b} houses with {c} such rooms take?",
        "{b} * {c} * {a}", {"a": upto(6), "b": upto(7), "c": upto(9)}),
    "fuel_used": ("train",
        "A van uses {a} litres of fuel for each 100 km. How many litres does it use for {b} km?",
        "{b} / 100 * {a}", {"a": upto(12, 5), "b": range(200, 1300, 100)}),
    "stamps_album": ("train",
        "An album has {a} pages for {b} stamps each. {name} owns {c} stamps. How many more stamps fill the album?",
        "{a} * {b} - {c}", {"a": upto(20, 6), "b": upto(12, 5), "c": upto(90, 20)}),
    "juice_glasses": ("train",
        "A jug holds {a} glasses of juice. At a party {b} jugs are filled and {c} glasses are drunk. "
        "How many glasses are left?",
        "{a} * {b} - {c}", {"a": upto(12, 4), "b": upto(9), "c": upto(50, 4)}),
    "garden_rows": ("train",
        "{name} plants {a} rows of {b} carrots and {c} rows of {d} leeks. How many plants are in the garden?",
        "{a} * {b} + {c} * {d}", {"a": upto(7), "b": upto(12, 5), "c": upto(7), "d": upto(12, 5)}),
    "loan_rates": ("train", "A bicycle costs {a} dollars. {name} pays {b} dollars at once and the rest in {c} equal "
        "rates. How many dollars is one rate?",
        "({a} - {b}) / {c}", {"a": range(120, 600, 10), "b": range(20, 120, 10), "c": upto(10)}),
    "lamp_hours": ("train", "A lamp burns {a} hours a day. How many hours does it burn in {b} weeks?",
        "{a} * 7 * {b}", {"a": upto(10), "b": upto(9)}),
    "seeds_sprout": ("train",
        "Of {a} seeds a quarter does not sprout. How many seeds sprout?",
        "{a} - {a} / 4", {"a": range(8, 240, 4)}),
    "points_per_game": ("train",
        "{name} scores {a} points in the first game, {b} in the second and {c} in the third. How many in total?",
        "{a} + {b} + {c}", {"a": upto(30, 4), "b": upto(30, 4), "c": upto(30, 4)}),
    "cut_pizza": ("train", "Each of {a} pizzas is cut into {b} slices. {c} people eat the same number of slices and "
        "nothing is left. How many slices does each eat?",
        "{a} * {b} / {c}", {"a": upto(9), "b": (4, 6, 8, 10, 12), "c": upto(12)}),
    "tank_filling": ("validate",
        "A tank holds {a} litres. A tap adds {b} litres a minute. How many litres are there after {c} minutes?",
        "{a} + {b} * {c}", {"a": upto(60, 10), "b": upto(12, 3), "c": upto(15, 4)}),
    "team_points": ("validate",
        "A win gives 3 points and a draw gives 1. A team has {a} wins and {b} draws. How many points has it?",
        "3 * {a} + {b}", {"a": upto(14, 3), "b": upto(9)}),
    "museum_guides": ("validate",
        "A museum has {a} guides. Each leads {b} tours of {c} visitors. How many visitors see the museum?",
        "{a} * {b} * {c}", {"a": upto(6), "b": upto(5), "c": upto(15, 6)}),
    "knitting_wool": ("validate",
        "{name} has {a} balls of wool. A scarf takes {b} balls. How many balls are left after {c} scarves?",
        "{a} - {b} * {c}", {"a": upto(60, 20), "b": upto(6), "c": upto(9)}),
    "garden_fence": ("test",
        "A garden is {a} m long and {b} m wide. A fence costs {c} dollars a metre. What does it cost all round?",
        "2 * ({a} + {b}) * {c}", {"a": upto(30, 8), "b": upto(7, 4), "c": upto(9)}),
    "train_seats": ("test",
        "A full train has {a} cars with {b} seats each. At a stop {c} people leave. How many people remain?",
        "{a} * {b} - {c}", {"a": upto(9, 3), "b": upto(60, 20), "c": upto(50, 5)}),
    "discount": ("test", "A jacket costs {a} dollars and is sold {b} percent cheaper. What does it cost now?",
        "{a} - {a} * {b} / 100", {"a": (20, 40, 60, 80, 120, 160, 200), "b": (10, 20, 25, 50)}),
    "honey_jars": ("test",
        "A beekeeper fills {a} jars a day for {b} days and sells them in crates of {c}. How many crates are filled?",
        "{a} * {b} / {c}", {"a": upto(24, 6), "b": upto(9, 3), "c": (4, 5, 6, 8, 10)}),
    "lift_trips": ("test", "A lift carries {a} people at a time. {b} people wait below and {c} come to join them. "
        "How many trips does it take?",
        "({b} + {c}) / {a}", {"a": upto(9, 4), "b": upto(60, 12), "c": upto(30, 4)}),
}  # fmt: skip
MATHEMATICS = {
    "sum_of_two": ("train", "What is {a} + {b}?", "{a} + {b}", {"a": upto(480, 12), "b": upto(480, 12)}),
    "difference_of_two": ("train", "Calculate {a} - {b}.", "{a} - {b}", {"a": upto(600, 17), "b": upto(300, 12)}),
    "percent_of": ("train", "What is {a}% of {b}?", "{a} * {b} / 100",
        {"a": (5, 10, 20, 25, 40, 50, 75), "b": (40, 60, 80, 120, 160, 200, 240, 300, 400)}),
    "mean_of_three": ("train", "Find the mean of {a}, {b} and {c}.", "({a} + {b} + {c}) / 3",
        {"a": upto(35), "b": upto(35), "c": upto(35)}),
    "order_of_operations": ("train", "Evaluate {a} + {b} * {c}.", "{a} + {b} * {c}",
        {"a": upto(20), "b": upto(9), "c": upto(9)}),
    "brackets_first": ("train", "Work out {a} * ({b} - {c}).", "{a} * ({b} - {c})",
        {"a": upto(9), "b": upto(30, 8), "c": upto(12)}),
    "square_perimeter": ("train", "A square has sides of {a} cm. How many centimetres is its perimeter?",
        "4 * {a}", {"a": upto(80)}),
    "sum_of_four": ("train", "Add the numbers {a}, {b}, {c} and {d}.", "{a} + {b} + {c} + {d}",
        {"a": upto(40), "b": upto(40), "c": upto(40), "d": upto(40)}),
    "box_volume": ("train", "A box measures {a} by {b} by {c} cm. What is its volume in cubic centimetres?",
        "{a} * {b} * {c}", {"a": upto(10), "b": upto(10), "c": upto(10)}),
    "metres_to_centimetres": ("train", "How many centimetres are {a} metres and {b} centimetres?", "{a} * 100 + {b}",
        {"a": upto(20), "b": upto(95, 5)}),
    "hours_to_minutes": ("train", "Turn {a} hours and {b} minutes into minutes.", "{a} * 60 + {b}",
        {"a": upto(9), "b": upto(55, 5)}),
    "double_and_subtract": ("train", "Double {a} and subtract {b}. What do you get?", "2 * {a} - {b}",
        {"a": upto(60, 10), "b": upto(40, 3)}),
    "missing_factor": ("train", "Which number times {a} makes {b}?", "{b} / {a}",
        {"a": upto(12, 3), "b": upto(144, 12)}),
    "square_minus": ("train", "Evaluate {a} * {a} - {b}.", "{a} * {a} - {b}", {"a": upto(15, 3), "b": upto(30)}),
    "missing_angle_line": ("train",
        "Two angles make a straight line. One is {a} degrees. How many degrees is the other?",
        "180 - {a}", {"a": upto(170, 10)}),
    "rectangle_area": ("validate", "A rectangle has sides {a} and {b}. What is its area?", "{a} * {b}",
        {"a": upto(15, 3), "b": upto(15, 3)}),
    "fraction_of": ("validate", "What is {a}/{b} of {c}?", "{c} / {b} * {a}",
        {"a": (2, 3), "b": (5, 7, 8, 10), "c": upto(120, 20)}),
    "mean_of_two": ("validate", "Which number lies exactly halfway between {a} and {b}?", "({a} + {b}) / 2",
        {"a": upto(60), "b": upto(99, 61)}),
    "triangle_angle": ("test", "Two angles of a triangle are {a} and {b} degrees. How many degrees is the third?",
        "180 - ({a} + {b})", {"a": upto(80, 20), "b": upto(80, 20)}),
    "price_per_piece": ("test", "{a} pieces cost {b} cents. How many cents do {c} pieces cost?", "{b} / {a} * {c}",
        {"a": upto(9, 3), "b": upto(180, 12), "c": upto(12)}),
}  # fmt: skip


def _draw(question: str, expression: str, slots: dict):
    def draw(rng):
        name, other = rng.sample(NAMES, 2)
        values, filled, equations, result = drawn(rng, expression, slots)
        asked = question.format(name=name, other=other, goods=rng.choice(GOODS), **values)
        return Example(asked, ". ".join([*equations, f"The answer is {result}."]), filled)

    return draw


for _skill, _table in (("word_problem", WORD_PROBLEMS), ("mathematics", MATHEMATICS)):
    for _name, (_split, _question, _expression, _slots) in _table.items():
        add(Template(_name, _skill, _split, _draw(_question, _expression, _slots)))
