"""Finds or makes the Python environment of the project, with the standard library alone.

`python3 lsnc_core/bootstrap.py` prints the path of a Python that has every requirement; progress
goes to standard error. A Python that satisfies pyproject.toml is used as it is. Otherwise `.venv`
in the checkout is made from requirements.lock. A stamp in it, written last, lets later starts find
it in a fraction of a second. The script runs under Python 3.8 and later.

`--check` prints the version of the running Python and the requirements it does not meet, one per
line. `--plain` prints the path of a Python of a version that the lock covers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
STAMP = "lsnc-stamp"
UNFINISHED = "unfinished"
DISK_FULL = "the disk is full: the environment needs about 6 GB; free some space and start again."
NOT_WRITABLE = (
    "the checkout cannot be written to: copy it to a folder of yours, or activate an environment "
    "that has the requirements."
)
NO_NETWORK = (
    "the packages could not be fetched: check the network (or the proxy and package index "
    "settings) and start again."
)
WRONG_HASH = "a package does not have the checksum in requirements.lock, so it was not installed."
CAUSES = (  # pattern in the installer's output, sentence
    (r"No space left on device|Disk quota exceeded|os error (28|122)\b", DISK_FULL),
    (r"Permission denied|Read-only file system|os error (13|30)\b", NOT_WRITABLE),
    (r"[Hh]ash mismatch|DO NOT MATCH THE HASHES", WRONG_HASH),
    (
        r"(?i)failed to fetch|error sending request|name resolution|dns error|unreachable",
        NO_NETWORK,
    ),
    (r"(?i)connection (refused|reset|broken)|timed out|failed to establish", NO_NETWORK),
    (r"(?i)could not find a version|certificate|proxy", NO_NETWORK),
)


class SetupError(Exception):
    """There is no usable environment; the message gives the cause and the remedy."""


def say(message: str) -> None:
    """Print a line on standard error; standard output carries the answer only."""
    print(message, file=sys.stderr, flush=True)


def offline() -> bool:
    """Whether the user has forbidden the network (`LSNC_OFFLINE=1`)."""
    return os.environ.get("LSNC_OFFLINE", "") not in ("", "0")


# ------------------------------------------------------------------------------------- requirements


def admitted(version: tuple[int, ...], project: Path) -> bool:
    """Whether requires-python in pyproject.toml admits this Python version."""
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^requires-python\s*=\s*">=3\.(\d+)"', text, re.MULTILINE)
    if not found:
        raise SetupError(
            'pyproject.toml must bound the Python version like this: requires-python = ">=3.11".'
        )
    return version[0] == 3 and version[1] >= int(found.group(1))


def locked_pythons(project: Path) -> list[int]:
    """Minor versions of the Pythons 3 for which requirements.lock has wheels, oldest first.

    They stand in the classifiers of pyproject.toml.
    """
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    minors = re.findall(r'^\s*"Programming Language :: Python :: 3\.(\d+)"', text, re.MULTILINE)
    if not minors:
        raise SetupError("pyproject.toml must list the Python versions in its classifiers.")
    return sorted(map(int, minors))


def locked(version: tuple[int, ...], project: Path) -> bool:
    """Whether requirements.lock can be installed for this Python version."""
    return version[0] == 3 and version[1] in locked_pythons(project)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version[:3]))


def unmet(project: Path) -> list[str]:
    """What the running Python lacks of pyproject.toml and its extras `companion` and `test`."""
    if not admitted(sys.version_info, project):
        return [f"Python {dotted(sys.version_info)} is not a supported version"]
    import tomllib

    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = list(table["dependencies"])
    for extra in ("companion", "test"):
        # an extra may ask for another one of this project
        listed = table["optional-dependencies"][extra]
        asked += [line for line in listed if not line.startswith(table["name"] + "[")]
    parse = requirement_parser()
    if parse is None:
        names = [re.split(r"[^\w.-]", line)[0] for line in asked]
        return [f"{name} is not installed" for name in [*names, "packaging"] if not installed(name)]
    # torchvision and torch must be built as a pair; torchvision's own metadata names its torch.
    asked += [line for line in requires("torchvision") if re.match(r"torch\b(?![-_.])", line)]
    lacking = []
    for line in asked:
        try:
            requirement = parse(line)
        except ValueError:
            continue  # another project's metadata; the tests check pyproject.toml itself
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None:
            lacking.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            lacking.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return lacking


def requirement_parser() -> Callable[[str], Any] | None:
    """The class Requirement of packaging, or of the copy inside pip; None where neither exists."""
    for name in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name).Requirement
    return None


def installed(name: str) -> str | None:
    """Version of an installed distribution; None if it is absent or its metadata is damaged."""
    from importlib import metadata

    try:
        return metadata.version(name) or None
    except (metadata.PackageNotFoundError, KeyError):
        return None


def requires(name: str) -> list[str]:
    """Requirements in the metadata of an installed distribution; empty if it is absent."""
    from importlib import metadata

    try:
        return metadata.requires(name) or []
    except (metadata.PackageNotFoundError, KeyError):
        return []


# ------------------------------------------------------------------------- the state of the machine


def right_python(project: Path) -> str:
    """A base interpreter of a locked version: the running one's, or the newest on PATH."""
    if locked(sys.version_info, project):
        return getattr(sys, "_base_executable", None) or sys.executable
    minors = locked_pythons(project)
    for minor in reversed(minors):
        path = shutil.which(f"python3.{minor}")
        if path and ask([path, "-c", "import sys; print(sys.version_info[1])"]) == [str(minor)]:
            return path
    raise SetupError(
        f"Python 3.{minors[0]} to 3.{minors[-1]} is needed and python3 is "
        f"{dotted(sys.version_info)}: install one of them so that python3.{minors[-1]} is on PATH, "
        "or activate an environment that has the requirements."
    )


def ask(command: list[str]) -> list[str] | None:
    """The lines that a short command prints; None if it does not run or fails."""
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.splitlines() if answer.returncode == 0 else None


def digest(project: Path, version: str) -> str:
    """Digest of requirements.lock, pyproject.toml and the Python version."""
    parts = [(project / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    digests = [hashlib.sha256(part).digest() for part in [*parts, version.encode()]]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def read_stamp(venv: Path) -> list[str] | None:
    """Lines of the stamp: digest and folder, or `unfinished`; None if there is no stamp."""
    try:
        text = (venv / STAMP).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return text.splitlines() or [UNFINISHED]


def write_stamp(venv: Path, lines: list[str]) -> None:
    partial = venv / f"{STAMP}.partial"
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(venv / STAMP)


def check(python: Path, project: Path) -> list[str] | None:
    """`--check` by another Python: its version and what it lacks; None if it does not run."""
    return ask([str(python), str(Path(__file__).resolve()), "--check", str(project)]) or None


def look(project: Path, venv: Path) -> tuple[str, str]:
    """What `venv` needs and why: "ready", "update" (install into it) or "build" (start over).

    A `.venv` made by hand has no stamp: it is used if it has everything, and completed if not.
    """
    if not venv.exists():
        return "build", ""
    stamp = read_stamp(venv)
    if stamp is not None and stamp[0] == UNFINISHED:
        return "build", "the last set-up did not finish"
    if stamp is not None and stamp[1:] != [os.path.realpath(venv)]:
        return "build", "its folder was moved or copied"
    answer = check(venv / "bin" / "python", project)
    if answer is None:
        return "build", "its Python does not run"
    version, *lacking = answer
    changed = stamp is not None and stamp[0] != digest(project, version)
    numbers = tuple(map(int, version.split(".")))
    if not admitted(numbers, project) or ((lacking or changed) and not locked(numbers, project)):
        return "build", f"its Python is {version}"
    if lacking:
        return "update", lacking[0]
    return ("update", "the requirements or its Python changed") if changed else ("ready", "")


# ------------------------------------------------------------------------------------- installation


def explain(step: str, output: str) -> str:
    """One sentence for a failed step, and the last lines of the installer's output."""
    causes = (sentence for pattern, sentence in CAUSES if re.search(pattern, output))
    cause = next(causes, "the installer's last lines:")
    if offline() and cause != DISK_FULL:
        cause = (
            "the network is off (--offline or LSNC_OFFLINE) and not every package is at hand: "
            "start once without it."
        )
    lines = [line.rstrip()[:200] for line in output.splitlines() if line.strip()]
    tail = [line for line in lines if "Retrying" not in line][-6:]
    return "\n    ".join([f"{step} failed: {cause}", *tail])


def run(step: str, command: list[str], project: Path, keep: tuple[int, ...] = ()) -> None:
    """Run one step of the installation quietly; raises `SetupError` if it fails.

    The child inherits `keep`, the lock's descriptor. So if this process is killed, the next start
    waits until the child has ended.
    """
    say(f"  {step}")
    kept_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
    environment = {name: value for name, value in os.environ.items() if name not in kept_out}
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_USER="0")
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=30)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  {step}: {time.monotonic() - began:.0f} s so far")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        log.seek(0)
        output = log.read().decode(errors="replace")
    if status != 0:
        raise SetupError(explain(step, output))


def empty(venv: Path) -> None:
    """Remove everything in `venv`, which may be a link to another disk, except the stamp."""
    for child in venv.iterdir():
        if child.name == STAMP:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def uv_at_hand(venv: Path, action: str) -> str | None:
    """Path of the uv of `.venv`, or of one on PATH if there is no other way; None to install it."""
    own, pip, on_path = venv / "bin" / "uv", venv / "bin" / "pip", shutil.which("uv")
    if action == "update" and own.exists():
        return str(own)
    if on_path and (offline() or (action == "update" and not pip.exists())):
        return on_path
    if offline():
        raise SetupError(
            "the environment is missing and the network is off (--offline or LSNC_OFFLINE): start "
            "once without it, or activate an environment that has the requirements."
        )
    return None


def make(project: Path, venv: Path, action: str, why: str, keep: tuple[int, ...] = ()) -> None:
    """Install requirements.lock and the project into `venv`; the stamp is written last."""
    began = time.monotonic()
    base = base_python(project) if action == "build" else ""
    uv = uv_at_hand(venv, action)
    doing = f"{'rebuilding' if venv.exists() else 'setting up'} .venv (once, about a minute)"
    doing = "updating .venv" if action == "update" else doing
    say(f"{doing}: {why}" if why else f"{doing}:")
    venv.mkdir(exist_ok=True)
    write_stamp(venv, [UNFINISHED])
    if action == "build":
        empty(venv)
        create = [base, "-m", "venv", os.path.realpath(venv)]  # venv refuses links
        run("making the environment", create, project, keep)
    python = str(venv / "bin" / "python")
    if uv is None:
        run("installing the installer (uv)", [python, "-m", "pip", "install", "uv"], project, keep)
        uv = str(venv / "bin" / "uv")
    install = [uv, "pip", "install", "--python", python, *(["--offline"] if offline() else [])]
    packages = [*install, "--require-hashes", "-r", "requirements.lock"]
    run("installing the packages (about 6 GB)", packages, project, keep)
    # setuptools is in the lock, so building the project fetches nothing.
    itself = [*install, "--no-deps", "--no-build-isolation", "-e", "."]
    run("installing the project", itself, project, keep)
    version, *lacking = check(Path(python), project) or ["", "its Python does not run"]
    if lacking:
        raise SetupError(
            "requirements.lock does not satisfy pyproject.toml: " + "; ".join(lacking[:3]) + "."
        )
    write_stamp(venv, [digest(project, version), os.path.realpath(venv)])
    say(f".venv is ready after {time.monotonic() - began:.0f} s")


def base_python(project: Path) -> str:
    """A base interpreter that can make environments. Raises `SetupError`."""
    base = right_python(project)
    if ask([base, "-c", "import ensurepip, venv"]) is None:
        minor = (ask([base, "-c", "import sys; print(sys.version_info[1])"]) or ["N"])[0]
        raise SetupError(
            f"{base} cannot make environments: install its venv module (Debian and Ubuntu: the "
            f"package python3.{minor}-venv), or activate an environment that has the requirements."
        )
    return base


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[tuple[int, ...]]:
    """Hold the lock file: one start sets up the environment, others wait."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is setting up .venv: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            # A file system without locks: continue without one.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        yield (file.fileno(),)


def find_or_make(project: Path) -> str:
    """Path of a Python that has everything; makes `.venv` if needed. Raises `SetupError`."""
    venv = project / ".venv"
    if os.path.realpath(sys.prefix) != os.path.realpath(venv):
        lacking = unmet(project)
        if not lacking:
            say(f"using {sys.executable}, which has everything")
            return sys.executable
        in_venv = sys.prefix != sys.base_prefix
        if in_venv or os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX"):
            some = "; ".join(lacking[:3])
            say(f"using .venv, because the active environment ({sys.prefix}) lacks: {some}")
    if look(project, venv)[0] != "ready":
        with only_one(project / ".venv.lock") as keep:
            action, why = look(project, venv)
            if action != "ready":
                make(project, venv, action, why, keep)
    return str(venv / "bin" / "python")


def main(arguments: list[str]) -> int:
    """Print the answer; on failure print one sentence on standard error and return 1."""
    try:
        if arguments[:1] == ["--check"]:
            project = Path(arguments[1]) if arguments[1:] else PROJECT
            print("\n".join([dotted(sys.version_info), *unmet(project)]))
        elif arguments == ["--plain"]:
            print(right_python(PROJECT))
        else:
            print(find_or_make(PROJECT))
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        cause = str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cause = DISK_FULL
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            cause = NOT_WRITABLE
        say(f"setting up the environment failed: {cause}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next start sets up the environment anew.")
        return 130
    return 0


if __name__ == "__main__":
    # As a script: modules of the package must not hide those of the standard library.
    package = str(PROJECT / "lsnc_core")
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != package]
    sys.exit(main(sys.argv[1:]))
