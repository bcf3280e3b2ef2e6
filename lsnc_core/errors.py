"""The one exception that means "you asked for something that cannot be done"."""

import importlib.util


class UsageError(ValueError):
    """The user gave something that cannot be used.

    The message is one sentence: what was wrong, where, and what to do. The command line prints it
    and exits with status 2; nothing else in the package prints instead of raising.
    """


def needs_companion(what: str, *packages: str, extra: str = "companion") -> None:
    """Refuse in one sentence what needs the extra `companion` where that is not installed.

    It stands before the imports of these packages, so that no traceback ends in one of them.

    Args:
        what: the subject of the sentence, e.g. "the image set digits".
        packages: names under which packages of the extra are imported, e.g. "sklearn".
        extra: another one, where these packages come with that.

    Raises:
        UsageError: if one of the packages is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"{what} needs {package}, which comes with the extra `{extra}`: "
                f"pip install 'lsnc-core[{extra}]'."
            )
