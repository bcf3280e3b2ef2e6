"""What every notebook does first: unknown parameters are refused, nothing else is."""

import papermill
import pytest
from conftest import ROOT

from lsnc_core import notebook
from lsnc_core.errors import UsageError

TAGGED, INJECTED, CURRENT = "profile, M = 'auto', 10", "# Parameters\nM = 5\n", "notebook.start()"


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [CURRENT],
        [TAGGED, CURRENT],
        [TAGGED, INJECTED, CURRENT],
        ["1 + 1", TAGGED, INJECTED, CURRENT],
        [TAGGED, "# Parameters of my plot\nwidth = 3", CURRENT],
        [TAGGED, "width = 3", CURRENT],
        ["a: int = 1\n(b, c), d = (2, 3), 4", "# Parameters\na = 1\nc = 5\nd = 2\n", CURRENT],
    ],
    ids=["none", "start", "own", "given", "later", "a comment", "a cell", "several at once"],
)
def test_known_parameters_and_cells_of_the_user_are_let_through(cells):
    notebook.check_parameters(cells)


def test_an_unknown_parameter_is_refused_in_one_sentence():
    injected = "# Parameters\nM = 5\nprofil = 'smoke'\n"
    with pytest.raises(UsageError) as caught:
        notebook.check_parameters([TAGGED, injected, CURRENT])
    sentence = "this notebook has no parameter 'profil'; its parameters are profile, M."
    assert str(caught.value) == sentence


def test_outside_a_notebook_the_profile_is_all_that_is_checked():
    assert notebook.start("smoke", "cpu") == "smoke"
    with pytest.raises(UsageError, match="unknown profile 'smoky'"):
        notebook.start("smoky")


@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_a_misspelt_parameter_of_plain_papermill_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            ROOT / "notebooks/explorer.ipynb",
            tmp_path / "out.ipynb",
            {"assumptoin": "beta"},
            kernel_name="python3",
            progress_bar=False,
        )
    assert caught.value.ename == "UsageError"
    sentence = "this notebook has no parameter 'assumptoin'; its parameters are assumption, M."
    assert caught.value.evalue == sentence
