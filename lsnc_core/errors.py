"""The one exception that means "you asked for something that cannot be done"."""


class UsageError(ValueError):
    """What the user gave cannot be used; the message is one sentence that says what was wrong,
    where, and what to do.

    The command line prints the sentence and exits with status 2; nothing else in the package prints
    instead of raising.
    """
