"""The one exception that means "you asked for something that cannot be done"."""

import importlib.util
import re

LONGEST = 1_000  # characters of a message


class UsageError(ValueError):
    """The user gave something that cannot be used.

    The message is one sentence: what was wrong, where, and what to do. The command line prints it
    and exits with status 2; nothing else in the package prints instead of raising.

    Messages quote what was given. A quotation of many lines, as that of an array, is brought to
    one line, and the middle of a long one is left out.
    """

    def __init__(self, message: object = ""):
        # names of files may hold what no page or log can
        text = str(message).encode("utf-8", "backslashreplace").decode()
        text = re.sub(r"\s*\n\s*", " ", text)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        super().__init__(text)


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
