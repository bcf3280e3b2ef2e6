"""What every notebook does first: unknown parameters are refused, nothing else is."""

import math
import subprocess
import sys

import nbformat
import papermill
import pytest
from conftest import ROOT, report_environment

from lsnc_core import notebook
from lsnc_core.errors import UsageError

TAGGED = "profile = 'auto'  # a remark\ndelta = 0.1\nM = 10\nrates = []"
CURRENT = "notebook.start()"
VALUES = {"profile": "smoke", "delta": 1, "M": 5, "rates": "[0.5, 1]"}
GIVEN = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in VALUES.items())


@pytest.mark.parametrize(
    "cells",
    [
        [TAGGED, GIVEN, CURRENT],
        ["1 + 1", TAGGED, GIVEN, CURRENT],
        # run again out of order, in a session
        [TAGGED, GIVEN, CURRENT, GIVEN, CURRENT],
        [TAGGED, "x = (1 +", "get_ipython().run_line_magic('time', '')", GIVEN, CURRENT],
    ],
    ids=["given", "later", "again", "other cells"],
)
def test_what_papermill_injects_gets_the_types_of_the_defaults(cells):
    converted = notebook.injected_parameters(cells, VALUES)
    expected = {"profile": "smoke", "delta": 1.0, "M": 5, "rates": [0.5, 1]}
    assert converted == expected and type(converted["delta"]) is float


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [CURRENT],
        [TAGGED, CURRENT],
        [TAGGED, "# Parameters of my plot\nwidth = 3", CURRENT],
        [TAGGED, "width = 3", CURRENT],
        [TAGGED, "# Parameters\na, b = 1, 2", CURRENT],
        [TAGGED, "# Parameters\nshow(M)", CURRENT],
        [TAGGED, "# Parameters\nM = (", CURRENT],
        ["show()", "# Parameters\nM = 2", CURRENT],
    ],
    ids=[
        "none",
        "start",
        "own",
        "a comment",
        "a cell",
        "two",
        "a call",
        "no Python",
        "no defaults",
    ],
)
def test_cells_of_the_user_are_let_through(cells):
    assert notebook.injected_parameters(cells, VALUES) == {}


def test_an_unknown_parameter_is_refused_in_one_sentence():
    injected = "# Parameters\nM = 5\nprofil = 'smoke'\n"
    with pytest.raises(UsageError) as caught:
        notebook.injected_parameters([TAGGED, injected, CURRENT], VALUES)
    sentence = "this notebook has no parameter 'profil'; "
    assert str(caught.value) == sentence + "its parameters are profile, delta, M, rates."


@pytest.mark.parametrize(
    "name, value, wanted",
    [
        ("M", 10.0, "a whole number"),
        ("M", True, "a whole number"),
        ("delta", math.inf, "a finite number"),
        ("delta", math.nan, "a finite number"),
        ("rates", 0.5, "a list such as"),
        ("profile", 3, "text"),
        ("profile", None, "text"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_sentence(name, value, wanted):
    cells = [TAGGED, f"# Parameters\n{name} = {value!r}\n", CURRENT]
    with pytest.raises(UsageError, match=f"^the parameter {name} must be {wanted}") as caught:
        notebook.injected_parameters(cells, {name: value})
    assert str(caught.value).endswith(f", got {value!r}.")


GOOD = [
    *(("5", 1, 5), ("-3", 1, -3), ("1e-3", 0.5, 0.001), ("2", 0.5, 2.0), ("0.25", 0.5, 0.25)),
    *(("true", False, True), ("false", True, False), ("[]", [1], []), ('["a", 2]', [1], ["a", 2])),
    *(("beta", "alpha", "beta"), ("", "x", ""), ("3", "x", "3"), ("a=b", "x", "a=b")),
    ("[1]", "x", "[1]"),
]


@pytest.mark.parametrize("text, default, value", GOOD)
def test_text_becomes_a_value_of_the_default_s_type(text, default, value):
    made = notebook.convert(text, default, "name")
    assert made == value and type(made) is type(default)


BAD = [
    *(("5.0", 1), ("ten", 1), ("", 1), ("true", 1), ("[1]", 1), ("null", 1), ("1e500", 1)),
    *(("half", 0.5), ("true", 0.5), ("", 0.5), ('"0.5"', 0.5), ("1e400", 0.5)),
    *(("yes", True), ("1", True), ("True", True)),
    *(("1,2", [1]), ("5", [1]), ('{"a": 1}', [1]), ("[1", [1])),
]


@pytest.mark.parametrize("text, default", BAD)
def test_text_of_another_type_is_refused_by_name(text, default):
    with pytest.raises(UsageError, match=r"^the parameter steps must be .*\.$") as refusal:
        notebook.convert(text, default, "steps")
    assert repr(text) in str(refusal.value)


def test_outside_a_notebook_the_profile_is_all_that_is_checked():
    assert notebook.start("smoke", "cpu") == "smoke"
    with pytest.raises(UsageError, match="device must be text, got None"):
        notebook.start("smoke", None)
    with pytest.raises(UsageError, match="unknown profile 'smoky'"):
        notebook.start("smoky")


@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_a_misspelt_parameter_of_plain_papermill_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            ROOT / "notebooks/explorer.ipynb",
            tmp_path / "out.ipynb",
            {"strenght": 0.5},
            kernel_name="python3",
            progress_bar=False,
        )
    assert caught.value.ename == "UsageError"
    sentence = "this notebook has no parameter 'strenght'; its parameters are profile, strength."
    assert caught.value.evalue == sentence


@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_values_of_plain_papermill_mean_what_they_mean_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    cells = [
        nbformat.v4.new_code_cell(
            "points = 101\ndelta = 0.1\nclasses = [2]", metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell(
            "from lsnc_core import notebook\n\n"
            "notebook.start()\nprint(repr([points, delta, classes]))"
        ),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(made, tmp_path / "made.ipynb")

    def run(*given):
        """As papermill's command line reads its arguments."""
        command = [sys.executable, "-m", "papermill", "made.ipynb", "out.ipynb"]
        for name, value in given:
            command += ["-p", name, value]
        environment = report_environment(PYTHONPATH=str(ROOT))
        answer = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        return answer, nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1]

    answer, last = run(("classes", "[2, 10]"), ("delta", "1"), ("points", "11"))
    assert answer.returncode == 0 and last.outputs[0].text == "[11, 1.0, [2, 10]]\n"
    answer, _ = run(("points", "1e1"))
    assert answer.returncode != 0
    assert "UsageError: the parameter points must be a whole number, got 10.0." in answer.stderr
