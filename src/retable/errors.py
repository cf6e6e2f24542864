"""Errors that a user can mend: printed as one line, without a traceback."""


class RetableError(Exception):
    """Base of all errors whose message alone tells the user what to do."""


class ConfigError(RetableError):
    """A key, value or combination that is not accepted; the message names it and what is."""


class DataError(RetableError):
    """A file that is missing or not what it should be; the message names the file and the fault."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
