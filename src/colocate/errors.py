"""The one exception for bad input: its message is meant for the user, without a traceback."""


class InputError(ValueError):
    """Config, data, model, adapter or environment is wrong: names the place, what was found and what is allowed."""
