"""The notebooks as the command knows them, against the folder of notebooks."""

import inspect
import types
from dataclasses import replace

import pytest
from conftest import ROOT

from lsnc_core import papers
from lsnc_core.errors import UsageError
from lsnc_core.papers.page import Page
from lsnc_core.report import catalog, parameters


def test_the_catalog_is_the_notebooks_folder():
    entries = papers.entries()
    names = [entry.name for entry in entries]
    files = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(names) == files
    assert len(set(names)) == len({entry.page.title for entry in entries}) == len(names)


def test_choose_keeps_the_reading_order_and_refuses_unknown_names():
    names = [entry.name for entry in papers.entries()]
    assert [entry.name for entry in catalog.choose([])] == names
    chosen = catalog.choose([names[2], names[0], names[2]])
    assert [entry.name for entry in chosen] == [names[0], names[2]]
    hint = r"there is no notebook 'chen_2_landscap': .*; did you mean 'chen_2_landscape'\?"
    with pytest.raises(UsageError, match=hint):
        catalog.choose([names[0], "chen_2_landscap"])
    with pytest.raises(UsageError, match="'zzz'") as caught:
        catalog.choose(["zzz"])
    assert "did you mean" not in str(caught.value)
    assert not [name for name in names if name not in str(caught.value)]


def test_plans_take_parameters_that_their_notebooks_have():
    planned = 0
    for entry in papers.entries():
        plan = getattr(entry.module, "plan_runs", None)
        if plan is not None:
            planned += 1
            known = parameters.defaults(ROOT / "notebooks" / f"{entry.name}.ipynb")
            assert set(inspect.signature(plan).parameters) <= set(known), entry.name
    assert planned > 5


def test_a_plan_takes_the_parameters_it_names_and_no_plan_trains_nothing():
    def plan_runs(profile, data_set=""):
        return [f"{profile} {data_set}", "another", "another"]

    module = types.SimpleNamespace(plan_runs=plan_runs)
    entry = papers.Entry("one", papers.papers()[0], module, Page("One"))
    given = {"profile": "smoke", "data_set": "digits", "points": 5}
    assert catalog.wanted_runs(entry, given) == ["smoke digits", "another"]
    assert catalog.wanted_runs(replace(entry, module=types.ModuleType("m")), given) == []


def test_a_plan_plans_other_data_when_asked():
    (landscape,) = catalog.choose(["chen_2_landscape"])
    own = catalog.wanted_runs(landscape, {"profile": "smoke", "data_set": ""})
    other = catalog.wanted_runs(landscape, {"profile": "smoke", "data_set": "mnist-subset"})
    assert own == catalog.wanted_runs(landscape, {"profile": "smoke"})
    assert own and {spec.data for spec in other} == {"mnist-subset"} != {own[0].data}


def test_places_and_minutes_in_words():
    paper = papers.papers()[1]
    entry = papers.Entry("one", paper, None, Page("One", "5.1", minutes={"quick": 2.50}))
    assert catalog.place(entry) == f"{paper.short}, 5.1" and catalog.minutes(entry) == "2.5"
    bare = replace(entry, page=Page("One"))
    assert catalog.place(bare) == paper.short and catalog.minutes(bare) == "not measured"
