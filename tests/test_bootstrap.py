"""Finding and making the environment: every decision and message, without installing anything."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lsnc_core import bootstrap

SCRIPT = Path(bootstrap.__file__)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with one requirement, which this Python meets; no environment is active."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "LSNC_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    write_project(tmp_path, ["numpy>=1"])
    (tmp_path / "requirements.lock").write_text("")
    return tmp_path


def write_project(folder, dependencies, test=(), python=">=3.11", minors=(11, 12, 13, 14)):
    """A pyproject.toml with the entries that bootstrap reads."""
    classifiers = [f'    "Programming Language :: Python :: 3.{minor}",' for minor in minors]
    lines = [
        "[project]",
        'name = "sample"',
        f'requires-python = "{python}"',
        *("classifiers = [", '    "Programming Language :: Python :: 3",', *classifiers, "]"),
        f"dependencies = {list(dependencies)[:1]!r}",
        "[project.optional-dependencies]",
        f"companion = {list(dependencies)[1:]!r}",
        f"test = {['sample[companion]', *test]!r}",
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines))


def fake_venv(project, stamp=None):
    """A `.venv` whose Python is this one."""
    executable(project / ".venv" / "bin" / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    if stamp is not None:
        bootstrap.write_stamp(project / ".venv", stamp)
    return project / ".venv"


def good_stamp(project):
    return [
        bootstrap.digest(project, bootstrap.dotted(sys.version_info)),
        os.path.realpath(project / ".venv"),
    ]


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# ------------------------------------------------------------------------------- the running Python


def test_the_environment_of_the_tests_is_used_as_it_is():
    answer = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, cwd="/", check=True
    )
    found = Path(answer.stdout.strip())
    assert answer.stdout.count("\n") == 1
    assert found.parent == Path(sys.executable).parent and os.path.samefile(found, sys.executable)
    assert "installing" not in answer.stderr


def test_a_python_with_everything_is_printed_with_one_line_of_comment(project, capsys):
    assert bootstrap.find_or_make(project) == sys.executable
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"using {sys.executable}, which has everything\n"
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("dependencies", "test", "expected"),
    [
        (["numpy>=1", "pytest"], [], []),
        (["numpy>=1000"], [], [r"numpy is [\d.]+, not >=1000"]),
        (
            ["no-such-thing>=1"],
            ["nor-this"],
            ["no-such-thing is not installed", "nor-this is not installed"],
        ),
        (["no-such-thing; sys_platform == 'elsewhere'"], [], []),
    ],
)
def test_unmet_names_missing_requirements(project, dependencies, test, expected):
    write_project(project, dependencies, test)
    lacking = bootstrap.unmet(project)
    assert len(lacking) == len(expected)
    for line, pattern in zip(lacking, expected, strict=True):
        assert re.fullmatch(pattern, line)


def test_torch_and_torchvision_must_be_a_pair(project, monkeypatch):
    monkeypatch.setattr(
        bootstrap, "requires", lambda name: ["numpy", "torch==2.11.0", "torch-something>=3"]
    )
    monkeypatch.setattr(bootstrap, "installed", {"numpy": "2.0", "torch": "2.15.0+cpu"}.get)
    assert bootstrap.unmet(project) == ["torch is 2.15.0+cpu, not ==2.11.0"]
    monkeypatch.setattr(bootstrap, "installed", {"numpy": "2.0", "torch": "2.11.0+cu130"}.get)
    assert bootstrap.unmet(project) == []


def test_an_incomplete_active_environment_is_named_and_left_alone(project, monkeypatch, capsys):
    write_project(project, ["aa-none", "bb-none", "cc-none", "dd-none"])
    monkeypatch.setenv("CONDA_PREFIX", "somewhere")
    monkeypatch.setattr(bootstrap, "look", lambda *_: ("ready", ""))
    assert bootstrap.find_or_make(project) == str(project / ".venv" / "bin" / "python")
    captured = capsys.readouterr().err
    assert (
        "cc-none is not installed" in captured
        and "dd-none" not in captured
        and captured.count("\n") == 1
    )


# ---------------------------------------------------------------------------- the version of Python


def test_supported_pythons_are_those_of_pyproject(project):
    assert not bootstrap.admitted((3, 10, 9), project)
    assert bootstrap.admitted((3, 11, 0), project) and bootstrap.admitted((3, 15, 2), project)
    assert bootstrap.locked_pythons(project) == [11, 12, 13, 14]
    write_project(project, [], python=">=3.11,<3.14")
    with pytest.raises(bootstrap.SetupError, match="requires-python"):
        bootstrap.admitted((3, 12, 0), project)
    write_project(project, [], minors=())
    with pytest.raises(bootstrap.SetupError, match="classifiers"):
        bootstrap.locked_pythons(project)


def test_a_python_newer_than_the_lock_looks_for_one_that_it_covers(project, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 15, 2, "final", 0))
    assert bootstrap.unmet(project) == []  # an active environment that has everything is used
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(
        bootstrap.SetupError, match=r"^Python 3\.11 to 3\.14 is needed and python3 is 3\.15\.2:"
    ):
        bootstrap.right_python(project)
    good = executable(tmp_path / "bin" / "python3.14", "#!/bin/sh\necho 14\n")
    assert bootstrap.right_python(project) == str(good)


def test_an_old_python_looks_for_another_that_runs(project, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    executable(tmp_path / "bin" / "python3.13", "#!/bin/sh\necho command not found >&2; exit 127\n")
    good = executable(tmp_path / "bin" / "python3.12", "#!/bin/sh\necho 12\n")
    assert bootstrap.right_python(project) == str(good)
    assert bootstrap.unmet(project) == ["Python 3.8.18 is not a supported version"]


def test_an_old_python_without_another_is_one_sentence(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    monkeypatch.setenv("PATH", str(project))
    monkeypatch.setattr(bootstrap, "PROJECT", project)
    assert bootstrap.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[-1].startswith(
        "Python 3.11 to 3.14 is needed and python3 is 3.8.18: install"
    )
    assert not (project / ".venv").exists()


def test_a_python_without_venv_names_the_package(project, monkeypatch):
    base = executable(
        project / "bin" / "python3", '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\necho 12\n'
    )
    monkeypatch.setattr(bootstrap, "right_python", lambda _: str(base))
    with pytest.raises(bootstrap.SetupError, match=r"python3\.12-venv"):
        bootstrap.make(project, project / ".venv", "build", "")
    assert not (project / ".venv").exists()


# ------------------------------------------------------------------------------- the state of .venv


def test_no_venv_is_built(project):
    assert bootstrap.look(project, project / ".venv") == ("build", "")


def test_a_stamped_venv_is_ready(project):
    fake_venv(project, good_stamp(project))
    assert bootstrap.look(project, project / ".venv") == ("ready", "")


def test_a_venv_made_by_hand_is_used_when_it_has_everything(project):
    fake_venv(project)
    assert bootstrap.look(project, project / ".venv") == ("ready", "")
    write_project(project, ["no-such-thing"])
    assert bootstrap.look(project, project / ".venv") == (
        "update",
        "no-such-thing is not installed",
    )


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_changed_requirements_are_an_update(project, name):
    fake_venv(project, good_stamp(project))
    with open(project / name, "a") as file:
        file.write("\n# changed\n")
    assert bootstrap.look(project, project / ".venv") == (
        "update",
        "the requirements or its Python changed",
    )


def test_another_python_version_is_an_update(project):
    fake_venv(
        project, [bootstrap.digest(project, "3.11.0rc1"), os.path.realpath(project / ".venv")]
    )
    assert bootstrap.look(project, project / ".venv")[0] == "update"


@pytest.mark.parametrize(
    "stamp", [[bootstrap.UNFINISHED], [""], ["\0\0"], ["digest", "/elsewhere/.venv"]]
)
def test_an_interrupted_or_moved_venv_is_rebuilt(project, stamp):
    fake_venv(project, stamp)
    assert bootstrap.look(project, project / ".venv")[0] == "build"


def test_a_venv_whose_python_is_gone_or_old_is_rebuilt(project):
    venv = fake_venv(project, good_stamp(project))
    (venv / "bin" / "python").unlink()
    assert bootstrap.look(project, venv) == ("build", "its Python does not run")
    (venv / "bin" / "python").symlink_to(project / "gone")
    assert bootstrap.look(project, venv) == ("build", "its Python does not run")
    (venv / "bin" / "python").unlink()
    executable(venv / "bin" / "python", "#!/bin/sh\necho 3.9.1\n")
    assert bootstrap.look(project, venv) == ("build", "its Python is 3.9.1")


def test_a_venv_of_a_python_that_the_lock_does_not_cover_is_used_only_if_complete(project):
    write_project(project, ["numpy>=1"], minors=(sys.version_info[1] + 1,))
    venv = fake_venv(project)
    assert bootstrap.look(project, venv) == ("ready", "")
    write_project(project, ["no-such-thing"], minors=(sys.version_info[1] + 1,))
    version = bootstrap.dotted(sys.version_info)
    assert bootstrap.look(project, venv) == ("build", f"its Python is {version}")


def test_emptying_keeps_the_stamp_and_what_links_point_to(project):
    venv = fake_venv(project, [bootstrap.UNFINISHED])
    (project / "kept").mkdir()
    (project / "kept" / "file").write_text("x")
    (venv / "link").symlink_to(project / "kept")
    bootstrap.empty(venv)
    assert [child.name for child in venv.iterdir()] == [bootstrap.STAMP]
    assert (project / "kept" / "file").exists()


# ------------------------------------------------------------------------ making it, and failing to


@pytest.fixture
def made(project, monkeypatch):
    """`make` on a `.venv` whose uv is a stub that notes its arguments."""
    venv = fake_venv(project)
    executable(venv / "bin" / "uv", f'#!/bin/sh\necho "$@" >> "{project}/calls"\n')
    return venv


def test_make_installs_by_hash_and_stamps_last(project, made, capsys):
    bootstrap.make(project, made, "update", "numpy is missing")
    lock, editable = (project / "calls").read_text().splitlines()
    assert lock == f"pip install --python {made}/bin/python --require-hashes -r requirements.lock"
    assert editable == f"pip install --python {made}/bin/python --no-deps --no-build-isolation -e ."
    assert bootstrap.read_stamp(made) == good_stamp(project)
    captured = capsys.readouterr()
    assert (
        captured.out == ""
        and "updating .venv: numpy is missing" in captured.err
        and ".venv is ready after" in captured.err
    )


def test_offline_reaches_the_installer(project, made, monkeypatch):
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    bootstrap.make(project, made, "update", "")
    assert (project / "calls").read_text().count("--offline") == 2


def test_a_lock_that_falls_short_is_reported(project, made):
    write_project(project, ["no-such-thing"])
    with pytest.raises(
        bootstrap.SetupError,
        match=r"requirements\.lock does not satisfy .* no-such-thing is not installed",
    ):
        bootstrap.make(project, made, "update", "")
    assert bootstrap.read_stamp(made) == [bootstrap.UNFINISHED]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("error: Failed to fetch: x\n  cause: dns error", "the packages could not be fetched"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("Permission denied (os error 13)", "cannot be written to"),
        ("error: Hash mismatch for torch", "checksum"),
        ("error: something else", "the installer's last lines"),
    ],
)
def test_a_failing_installer_gives_one_sentence_and_its_last_lines(project, made, output, sentence):
    executable(made / "bin" / "uv", f"#!/bin/sh\nseq 20\ncat <<'END'\n{output}\nEND\nexit 2\n")
    with pytest.raises(bootstrap.SetupError) as caught:
        bootstrap.make(project, made, "update", "")
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("installing the packages (about 6 GB) failed: ") and sentence in first
    assert rest[-1].strip() == output.splitlines()[-1].strip() and len(rest) == 6
    assert bootstrap.read_stamp(made) == [bootstrap.UNFINISHED]


def test_offline_without_an_environment_is_one_sentence(project, monkeypatch, capsys):
    write_project(project, ["no-such-thing"])
    monkeypatch.setattr(bootstrap, "PROJECT", project)
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    assert bootstrap.main([]) == 1
    captured = capsys.readouterr()
    assert (
        captured.out == ""
        and "the environment is missing and the network is off" in captured.err.splitlines()[-1]
    )
    assert not (project / ".venv").exists()


def test_offline_with_missing_packages_names_the_network(monkeypatch):
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    assert "the network is off" in bootstrap.explain(
        "installing", "error: x was not found in the cache"
    )


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "cannot be written to"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_file_system_is_one_sentence(monkeypatch, capsys, number, sentence):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bootstrap, "find_or_make", fail)
    assert bootstrap.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err and captured.err.count("\n") == 1


def test_two_starts_set_up_once(project):
    """The second waits for the first and finds `.venv` ready.

    The lock outlives a killed start for as long as its installer runs.
    """
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lsnc_core import bootstrap

project = Path(sys.argv[2])
made = project / "made"

def make(project, venv, action, why, keep):
    bootstrap.run("waiting", ["sleep", "0.5"], project, keep)
    made.write_text(made.read_text() + "x" if made.exists() else "x")

bootstrap.unmet = lambda project: ["something"]
bootstrap.look = lambda project, venv: ("ready" if made.exists() else "build", "")
bootstrap.make = make
print(bootstrap.find_or_make(project))
"""
    command = [sys.executable, "-c", code, str(SCRIPT.parents[1]), str(project)]
    starts = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [start.communicate(timeout=30) for start in starts]
    assert [start.returncode for start in starts] == [0, 0]
    assert {out.strip() for out, _ in answers} == {str(project / ".venv" / "bin" / "python")}
    assert (project / "made").read_text() == "x"
    assert sum("waiting for it" in err for _, err in answers) == 1
