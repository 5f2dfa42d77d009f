"""The error that is the user's to mend: it is shown as one line, without a traceback."""


class OnebasinError(Exception):
    """Something the user can put right. The message says what, where, and the way out."""
