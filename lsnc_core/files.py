"""Where things lie on disk, and writing them whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lsnc_core.errors import UsageError

PROJECT = Path(__file__).resolve().parents[1]


def find_place(name: object) -> Path:
    """The absolute path of a file or folder that a user names; "~" is the home folder.

    Raises:
        UsageError: for what can name none: no text, a NUL in it, characters that no name of a file
            has, the home folder of somebody who is not known.
    """
    if not isinstance(name, (str, Path)):
        raise UsageError(f"a file or folder is named by a text, not by {name!r}.")
    try:
        os.fsencode(name)
        if "\0" in str(name):
            raise ValueError("a NUL")
        return Path(name).expanduser().absolute()
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{str(name)!r} cannot name a file or folder.") from error


def is_checkout() -> bool:
    """Whether the package lies in a checkout of the project, or was installed without it."""
    return (PROJECT / "pyproject.toml").exists()


def outputs_root() -> Path:
    """The folder for everything generated.

    `LSNC_OUTPUTS` if set, else `outputs/` of the checkout, else of the working directory.
    """
    if os.environ.get("LSNC_OUTPUTS"):
        return find_place(os.environ["LSNC_OUTPUTS"])
    return (PROJECT if is_checkout() else Path.cwd()) / "outputs"


def data_root() -> Path:
    """The folder of downloaded image sets: `LSNC_DATA` if set, else `data/` under the outputs."""
    if os.environ.get("LSNC_DATA"):
        return find_place(os.environ["LSNC_DATA"])
    return outputs_root() / "data"


def offline() -> bool:
    """Whether downloads are switched off: `LSNC_OFFLINE` is set, and not to 0."""
    return os.environ.get("LSNC_OFFLINE", "") not in ("", "0")


def deterministic() -> bool:
    """Whether training on a GPU must repeat to the last bit.

    It must where `LSNC_DETERMINISTIC` is set, and not to 0.
    """
    return os.environ.get("LSNC_DETERMINISTIC", "") not in ("", "0")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary_path)` and move the result to `path`: the whole file appears, or none.

    Raises:
        UsageError: when the folder cannot be written or the disk is full; a file that was at `path`
            before stays as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        temporary = Path(name)
        os.close(handle)
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes private files; results are meant to be shared like any other file
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        remedy = (
            "free some space or choose" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose"
        )
        # pyarrow's text is another than the system's
        reason = os.strerror(error.errno) if error.errno else error
        raise UsageError(
            f"cannot write {path}: {reason}; {remedy} another folder with --outputs."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
