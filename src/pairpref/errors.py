"""The one exception whose message is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend. The message says what was got, what was expected and what to do; no traceback is shown."""
