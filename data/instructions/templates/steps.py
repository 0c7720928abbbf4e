"""The worked answer of an arithmetic expression: one equation a step, in the order in which it is evaluated.

3 * (8 + 4) - 5    ->    8 + 4 = 12. 3 * 12 = 36. 36 - 5 = 31.
"""

import ast
import random

SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def steps_of(expression: str) -> tuple[list[str], int] | None:
    """(equations, value) of an expression of whole numbers; None if a step is not a positive whole number."""
    equations = []

    def visit(node) -> int | None:
        if isinstance(node, ast.Constant):
            return node.value
        left, right = visit(node.left), visit(node.right)
        if left is None or right is None:
            return None
        sign = SIGNS[type(node.op)]
        if sign == "/":
            result = left // right if left % right == 0 else None
        else:
            result = {"+": left + right, "-": left - right, "*": left * right}[sign]
        if result is None or result < 1:
            return None
        equations.append(f"{left} {sign} {right} = {result}")
        return result

    result = visit(ast.parse(expression, mode="eval").body)
    return None if result is None else (equations, result)


def drawn(rng: random.Random, expression: str, slots: dict) -> tuple[dict, str, list[str], int]:
    """Values of the slots for which every step is a positive whole number; (values, expression, equations, value)."""
    for _ in range(10_000):
        values = {slot: rng.choice(list(choices)) for slot, choices in slots.items()}
        filled = expression.format(**values)
        if (worked := steps_of(filled)) is not None:
            return values, filled, *worked
    raise ValueError(f"{expression} with {slots}: no whole numbers")
