"""The one exception that means "you asked for something that cannot be done"."""


class UsageError(ValueError):
    """The user gave something that cannot be used.

    The message is one sentence: what was wrong, where, and what to do. The command line prints it
    and exits with status 2; nothing else in the package prints instead of raising.
    """
