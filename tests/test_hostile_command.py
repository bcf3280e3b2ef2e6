"""The command line, notebook parameters and specs with texts and values that nobody expects."""

import dataclasses
import json
import os
from pathlib import Path

import hostile
import pytest
from conftest import ROOT
from helpers import a_spec, one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core import cli, papers
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.report import catalog, parameters, pipeline
from lsnc_core.runs import RunSpec

TEXTS = {
    "nothing": "",
    "a blank": " ",
    "a word": "x",
    "a dash": "-",
    "an option": "--force",
    "no number": "nan",
    "infinity": "Infinity",
    "minus one": "-1",
    "a half": "0.5",
    "a large number": "1e308",
    "too large a number": "1e400",
    "a huge int": "9" * 400,
    "true": "true",
    "null": "null",
    "an empty list": "[]",
    "a list": "[1, 0.5]",
    "a list of texts": '["x", "mnist"]',
    "a deep list": "[" * 1000 + "]" * 1000,
    "a mapping": '{"a": 1}',
    "two lines": "a\nb",
    "NUL": "a\0b",
    "right to left": "\u202egpj.exe",
    "a lone surrogate": "\udcff",
    "a long text": "x" * 5_000,
    "a format": "{epochs} %s",
    "a path that leaves": "../../x",
    "a device": "/dev/null",
    # where nobody can write, not even root
    "an absent file": "/proc/nonexistent/a.py",
    "an absent file of labels": "/proc/nonexistent/a.npz:b",
    "a folder": "/proc",
    "code": "__import__('os').system('touch marker')",
}
OPTIONS = ["--profile", "--only", "--figure", "-p", "--device", "--data", "--outputs", "--record"]
ENTRIES = papers.entries()


@pytest.fixture
def command(own_outputs, monkeypatch, tmp_path, capsys):
    """Runs the command up to the training: exit status and what it printed to standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSNC_OFFLINE", "1")

    def stop(request):
        pipeline.plan(request)
        return Path("index.html"), {}

    monkeypatch.setattr(pipeline, "carry_out", stop)
    monkeypatch.setattr(pipeline, "draw_figure", lambda request, name: [])

    def run(*arguments):
        before = dict(os.environ)
        try:
            code = cli.main(arguments)
        except SystemExit as ended:  # argparse's own
            code = ended.code
        finally:
            os.environ.clear()
            os.environ.update(before)
        return code, capsys.readouterr().err

    yield run
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_taken_or_refused_in_one_sentence(command, option):
    for name, text in TEXTS.items():
        # one notebook without networks, unless the option chooses
        chosen = [] if option in ("--only", "--figure") else ["--only", "start_here"]
        code, errors = command("--profile", "smoke", *chosen, option, text)
        assert code in (cli.OK, cli.MISUSED), f"{name}: {code} {errors}"
        lines = errors.strip().splitlines()
        if code == cli.MISUSED:
            assert lines[-1].startswith("run_all.sh: "), f"{name}: {errors}"
            assert len(lines[-1]) < 2_000 and "Traceback" not in errors, name


def test_a_link_that_leads_to_itself_is_one_sentence(command, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for option in ("--data", "--outputs", "--record"):
        code, errors = command("--profile", "smoke", "--only", "start_here", option, "loop/x")
        assert code == cli.MISUSED and len(errors.strip().splitlines()) == 1, errors


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_parameter_is_taken_or_refused_in_one_sentence(own_outputs, monkeypatch, entry):
    """As after `-p`: checked and converted, and the networks described that it asks for."""
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    defaults = parameters.defaults(ROOT / "notebooks" / f"{entry.name}.ipynb")
    faults = []
    for parameter in defaults:
        for name, text in TEXTS.items():
            try:
                chosen = parameters.assign([f"{parameter}={text}"], {entry.name: defaults})
                settled = chosen[entry.name] | {"profile": "smoke", "device": "cpu"}
                specs = catalog.wanted_runs(entry, settled)
                assert all(isinstance(spec, RunSpec) for spec in specs)
            except UsageError as error:
                # a file's path may end a sentence only with a point
                if not one_sentence(error) and not str(error).endswith("?"):
                    faults.append(f"{parameter} = {name}: no sentence: {error}")
            except Exception as error:
                faults.append(f"{parameter} = {name}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)


FIELDS = [field.name for field in dataclasses.fields(RunSpec)]


@pytest.mark.parametrize("field", FIELDS)
def test_a_setting_of_a_run_is_kept_or_refused_in_one_sentence(field):
    faults = []
    for name, value in hostile.values().items():
        found = hostile.fault(a_spec, {field: value})
        if found:
            faults.append(f"{name}: {found}")
    assert not faults, "\n".join(faults)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(values=st.dictionaries(st.sampled_from([*FIELDS, "x"]), JSON, max_size=6))
def test_a_stored_description_is_a_spec_or_one_sentence(values):
    """What a store's file says of its network may be anything that JSON can hold."""
    described = json.loads(json.dumps(a_spec().to_dict())) | values
    try:
        spec = RunSpec.from_dict(described)
    except UsageError as error:
        assert one_sentence(error)
        return
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@settings(max_examples=500, deadline=None)
@given(value=JSON | st.text().map(repr), default=st.sampled_from([1, 0.5, "a", [1], True]))
def test_a_parameter_has_the_type_of_its_default_or_is_refused(value, default):
    for each in (value, json.dumps(value)):
        try:
            converted = convert(each, default, "x")
        except UsageError as error:
            assert one_sentence(error)
            continue
        assert type(converted) is type(default)
        if each is value and type(value) is type(default) is not str:
            assert converted == value
