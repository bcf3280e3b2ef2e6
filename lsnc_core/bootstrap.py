"""Finds or makes the Python environment of the project, with nothing but the standard library.

`python3 lsnc_core/bootstrap.py` prints the path of a Python that has everything; what it does
meanwhile goes to standard error. A Python that already satisfies pyproject.toml is used as it is.
Otherwise `.venv` in the checkout is made from requirements.lock; a stamp in it, written last, lets
later starts find it in a fraction of a second. Runs under Python 3.8 and later.

`--check` prints the version of the running Python and what it lacks, one line each; `--plain`
prints a Python of an admitted version.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
STAMP = "lsnc-stamp"
UNFINISHED = "unfinished"
DISK_FULL = "the disk is full: the environment needs about 6 GB; free some space and start again."
NOT_WRITABLE = "the checkout cannot be written to: copy it to a folder of yours, or activate an environment that has the requirements."
CAUSES = (
    (r"No space left on device|Disk quota exceeded|os error (28|122)\b", DISK_FULL),
    (r"Permission denied|Read-only file system|os error (13|30)\b", NOT_WRITABLE),
    (
        r"[Hh]ash mismatch|DO NOT MATCH THE HASHES",
        "a package does not have the checksum requirements.lock names, so it was not installed.",
    ),
    (
        r"(?i)failed to fetch|error sending request|name resolution|dns error|unreachable|connection (refused|reset|broken)|timed out|"
        r"failed to establish|could not find a version|certificate|proxy",
        "the packages could not be fetched: check the network (or the proxy and package index settings) and start again.",
    ),
)


class SetupError(Exception):
    """The environment cannot be had; the message says why and what to do."""


def say(message: str) -> None:
    """A line on standard error: standard output carries the answer alone."""
    print(message, file=sys.stderr, flush=True)


def offline() -> bool:
    """Whether the user forbade the network (`LSNC_OFFLINE=1`)."""
    return os.environ.get("LSNC_OFFLINE", "") not in ("", "0")


# -------------------------------------------------------------------------------- what is asked for


def python_bounds(project: Path) -> tuple[int, int]:
    """First admitted and first refused minor version of Python 3 in pyproject.toml; (11, 14) means
    3.11 to 3.13.
    """
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^requires-python\s*=\s*">=3\.(\d+)\s*,\s*<3\.(\d+)"', text, re.MULTILINE)
    if not found:
        raise SetupError(
            'pyproject.toml must bound the Python version like this: requires-python = ">=3.11,<3.14".'
        )
    return int(found.group(1)), int(found.group(2))


def admitted(version: tuple[int, ...], project: Path) -> bool:
    """Whether pyproject.toml admits this Python version."""
    low, high = python_bounds(project)
    return version[0] == 3 and low <= version[1] < high


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version[:3]))


def unmet(project: Path) -> list[str]:
    """What the running Python lacks of pyproject.toml's dependencies and `test` extra; empty when
    it has everything.
    """
    if not admitted(sys.version_info, project):
        return [f"Python {dotted(sys.version_info)} is outside the admitted versions"]
    import tomllib

    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*table["dependencies"], *table.get("optional-dependencies", {}).get("test", [])]
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        try:
            from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
        except ImportError:
            names = [re.split(r"[^\w.-]", line)[0] for line in asked]
            return [
                f"{name} is not installed"
                for name in [*names, "packaging"]
                if installed(name) is None
            ]
    # torchvision and torch must be a pair that was built together; torchvision's own metadata names
    # its torch
    asked += [line for line in requires("torchvision") if re.match(r"torch\b(?![-_.])", line)]
    lacking = []
    for line in asked:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # a stranger's metadata; pyproject.toml itself is checked by the tests
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None:
            lacking.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            lacking.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return lacking


def installed(name: str) -> str | None:
    """Version of an installed distribution, None where it is absent or its metadata is damaged."""
    from importlib import metadata

    try:
        return metadata.version(name) or None
    except (metadata.PackageNotFoundError, KeyError):
        return None


def requires(name: str) -> list[str]:
    """What an installed distribution requires, as its metadata says; empty where it is absent."""
    from importlib import metadata

    try:
        return metadata.requires(name) or []
    except (metadata.PackageNotFoundError, KeyError):
        return []


# ------------------------------------------------------------------------------------ what is there


def right_python(project: Path) -> str:
    """A base interpreter of an admitted version: the running one's, else the newest `python3.N` on
    PATH that runs.
    """
    if admitted(sys.version_info, project):
        return getattr(sys, "_base_executable", None) or sys.executable
    low, high = python_bounds(project)
    for minor in range(high - 1, low - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path and ask([path, "-c", "import sys; print(sys.version_info[1])"]) == [str(minor)]:
            return path
    raise SetupError(
        f"Python 3.{low} to 3.{high - 1} is needed and python3 is {dotted(sys.version_info)}: "
        f"install one of them so that python3.{high - 1} is found, or activate an environment that has it."
    )


def ask(command: list[str]) -> list[str] | None:
    """The lines a short command prints; None when it does not run or fails."""
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.splitlines() if answer.returncode == 0 else None


def digest(project: Path, version: str) -> str:
    """Changes when requirements.lock, pyproject.toml or the Python version does."""
    parts = [(project / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    return hashlib.sha256(
        b"".join(hashlib.sha256(part).digest() for part in [*parts, version.encode()])
    ).hexdigest()


def read_stamp(venv: Path) -> list[str] | None:
    """The stamp's lines: the digest and the folder it was made in, or `unfinished`; None where
    there is no stamp.
    """
    try:
        return (venv / STAMP).read_text(encoding="utf-8", errors="replace").splitlines() or [
            UNFINISHED
        ]
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_stamp(venv: Path, lines: list[str]) -> None:
    partial = venv / f"{STAMP}.partial"
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(venv / STAMP)


def look(project: Path, venv: Path) -> tuple[str, str]:
    """What `venv` needs, and why: "ready", "update" (install into it) or "build" (from nothing).

    A `.venv` that somebody made by hand has no stamp: it is used when it has everything and added
    to when it has not.
    """
    if not venv.exists():
        return "build", ""
    stamp = read_stamp(venv)
    if stamp is not None and stamp[0] == UNFINISHED:
        return "build", "the last set-up did not finish"
    if stamp is not None and stamp[1:] != [os.path.realpath(venv)]:
        return "build", "its folder was moved or copied"
    told = ask(
        [str(venv / "bin" / "python"), str(Path(__file__).resolve()), "--check", str(project)]
    )
    if not told:
        return "build", "its Python does not run"
    version, lacking = told[0], told[1:]
    if not admitted(tuple(map(int, version.split("."))), project):
        return "build", f"its Python is {version}"
    if lacking:
        return "update", lacking[0]
    if stamp is not None and stamp[0] != digest(project, version):
        return "update", "the requirements or its Python changed"
    return "ready", ""


# ---------------------------------------------------------------------------------------- making it


def explain(step: str, output: str) -> str:
    """One sentence for a failed step, and the last lines of what the installer said."""
    cause = next(
        (sentence for pattern, sentence in CAUSES if re.search(pattern, output)),
        "the installer says why:",
    )
    if offline() and cause != DISK_FULL:
        cause = "the network is off (--offline or LSNC_OFFLINE) and not every package is at hand: start once without it."
    tail = [
        line.rstrip()[:200]
        for line in output.splitlines()
        if line.strip() and "Retrying" not in line
    ][-6:]
    return "\n    ".join([f"{step} failed: {cause}", *tail])


def run(step: str, command: list[str], project: Path, keep: tuple[int, ...] = ()) -> None:
    """Run one step of the installation quietly; raises `SetupError` when it fails.

    `keep` holds the lock's descriptor: the child inherits it, so a start after this process was
    killed waits for the child to end.
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
    """Remove everything in `venv` but the stamp, which says `unfinished` meanwhile; `venv` may be a
    link to another disk.
    """
    for child in venv.iterdir():
        if child.name == STAMP:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def uv_at_hand(venv: Path, action: str) -> str | None:
    """Path of a uv to install with: that of `.venv`, or one on PATH where it must do; None means
    that uv is to be installed first.
    """
    own, pip, on_path = venv / "bin" / "uv", venv / "bin" / "pip", shutil.which("uv")
    if action == "update" and own.exists():
        return str(own)
    if on_path and (offline() or (action == "update" and not pip.exists())):
        return on_path
    if offline():
        raise SetupError(
            "the environment is missing and the network is off (--offline or LSNC_OFFLINE): start once without it, "
            "or activate an environment that has the requirements."
        )
    return None


def make(project: Path, venv: Path, action: str, why: str, keep: tuple[int, ...] = ()) -> None:
    """Bring `venv` up to requirements.lock and install the project into it; the stamp is written
    last.
    """
    began = time.monotonic()
    base = right_python(project) if action == "build" else ""
    if base and ask([base, "-c", "import ensurepip, venv"]) is None:
        minor = (ask([base, "-c", "import sys; print(sys.version_info[1])"]) or ["N"])[0]
        raise SetupError(
            f"{base} cannot make environments: install its venv module (Debian and Ubuntu: the package python3.{minor}-venv), "
            "or activate an environment that has the requirements."
        )
    uv = uv_at_hand(venv, action)
    doing = (
        "updating .venv"
        if action == "update"
        else f"{'rebuilding' if venv.exists() else 'setting up'} .venv (once, about a minute)"
    )
    say(f"{doing}: {why}" if why else f"{doing}:")
    venv.mkdir(exist_ok=True)
    write_stamp(venv, [UNFINISHED])
    if action == "build":
        empty(venv)
        run(
            "making the environment", [base, "-m", "venv", os.path.realpath(venv)], project, keep
        )  # venv refuses links
    python = str(venv / "bin" / "python")
    if uv is None:
        run("installing the installer (uv)", [python, "-m", "pip", "install", "uv"], project, keep)
        uv = str(venv / "bin" / "uv")
    install = [uv, "pip", "install", "--python", python, *(["--offline"] if offline() else [])]
    run(
        "installing the packages (about 6 GB)",
        [*install, "--require-hashes", "-r", "requirements.lock"],
        project,
        keep,
    )
    # setuptools comes from the lock, so that building the project fetches nothing
    run(
        "installing the project",
        [*install, "--no-deps", "--no-build-isolation", "-e", "."],
        project,
        keep,
    )
    told = ask([python, str(Path(__file__).resolve()), "--check", str(project)]) or [
        "",
        "its Python does not run",
    ]
    if told[1:]:
        raise SetupError(
            f"requirements.lock does not give what pyproject.toml asks for: {'; '.join(told[1:4])}."
        )
    write_stamp(venv, [digest(project, told[0]), os.path.realpath(venv)])
    say(f".venv is ready after {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[tuple[int, ...]]:
    """Hold the lock file: one start sets up, others wait."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is setting up .venv: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (
                errno.ENOLCK,
                errno.ENOTSUP,
                errno.ENOSYS,
            ):  # a file system without locks: go on without
                raise
        yield (file.fileno(),)


def find_or_make(project: Path) -> str:
    """Path of a Python that has everything; sets up `.venv` where there is none. Raises
    `SetupError`.
    """
    venv = project / ".venv"
    if os.path.realpath(sys.prefix) != os.path.realpath(venv):
        lacking = unmet(project)
        if not lacking:
            say(f"using {sys.executable}, which has everything")
            return sys.executable
        if (
            sys.prefix != sys.base_prefix
            or os.environ.get("VIRTUAL_ENV")
            or os.environ.get("CONDA_PREFIX")
        ):
            say(
                f"using .venv, as the active environment ({sys.prefix}) does not do: {'; '.join(lacking[:3])}"
            )
    if look(project, venv)[0] != "ready":
        with only_one(project / ".venv.lock") as keep:
            action, why = look(project, venv)
            if action != "ready":
                make(project, venv, action, why, keep)
    return str(venv / "bin" / "python")


def main(arguments: list[str]) -> int:
    """Print the answer; on failure one sentence on standard error and status 1."""
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
        full, refused = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
        cause = (
            DISK_FULL
            if error.errno in full
            else NOT_WRITABLE
            if error.errno in refused
            else str(error)
        )
        say(f"setting up the environment failed: {cause}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next start sets up the environment anew.")
        return 130
    return 0


if __name__ == "__main__":
    # run as a script: modules of the package must not hide those of the standard library
    sys.path[:] = [
        entry for entry in sys.path if os.path.realpath(entry or ".") != str(PROJECT / "lsnc_core")
    ]
    sys.exit(main(sys.argv[1:]))
