"""The error of a user's mistake."""


class InputError(ValueError):
    """What the user asked for can't be done: one line with expected, got and remedy.

    `train.py` prints it without a traceback; every check of user input in this project raises it.
    """
