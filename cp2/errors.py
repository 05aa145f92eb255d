"""The one exception that is shown to the user as a message instead of a traceback."""


class UserError(Exception):
    """Something the user can mend: bad settings, a bad file, a missing archive, a full disk.

    The text says what was found, where (file and key), what is allowed and what to do. The command
    line prints it without a traceback and exits with code 2.
    """


class WrongFile(UserError):
    """A file is not what it should be: wrong hash, truncated, corrupt, or of another layout."""
