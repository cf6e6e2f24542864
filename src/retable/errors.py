"""Errors that a user can mend: printed as one line, without a traceback."""


class RetableError(Exception):
    """Base of all errors whose message alone tells the user what to do."""


class ConfigError(RetableError):
    """A key, value or combination that is not accepted; the message names it and what is."""


class DataError(RetableError):
    """A file that is missing or not what it should be; the message names the file and the fault."""
