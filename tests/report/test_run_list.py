"""What was run, on a made-up list of networks."""

import json

import pandas as pd
import pytest
from elements import Elements
from test_reference import ENTRIES, a_page, a_site

from lsnc_core.errors import UsageError
from lsnc_core.report import networks, record, run_list

RUNS = pd.DataFrame(
    {
        "run": ["a", "b", "c"],
        "data": ["digits", "digits", "mnist"],
        "train_size": ["100", "100", "2000"],  # texts, as from an earlier report
        "epochs": ["10", "20", "5"],
        "seed": [0, 1, 1],
        "seconds": [1.5, 2.5, 10.0],
        "device": ["cpu", "cpu", "cuda"],
        "hardware": ["a chip", "a chip", "a <GPU>"],
        "commit": ["123", "123", "456"],
    }
)
MADE = {"processor": "a <chip>", "cores": 2, "accelerator": None, "commit": "123"}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The folder of recorded results."""
    (tmp_path / "recorded/benchmarks").mkdir(parents=True)
    monkeypatch.setattr(record, "FOLDER", tmp_path / "recorded")
    return tmp_path / "recorded"


def a_recording(folder, runs):
    folder.mkdir()
    if runs is not None:
        (folder / "runs.csv").write_text(runs)
    versions = {"python": "3.11", "torch": "2.15"}
    made = MADE | {"versions": versions}
    trained = {"hardware": ["a chip"], "commits": ["123"]}
    return record.Recording(folder, "gpu", (), "2030-01-01", trained, made, {})


def page_text(site):
    run_list.write(site)
    site.publish()
    page = Elements((site.folder / "runs.html").read_text(encoding="utf-8"))
    return page, " ".join(page.texts("main")[0].split())


def test_networks_are_counted_by_page_and_once_in_all():
    first = run_list.networks_behind(a_page(ENTRIES[0], runs=["a", "b"]), RUNS)
    assert (first.count, first.seeds, first.images, first.epochs) == (2, 2, "100", "10 to 20")
    assert (first.passes, first.seconds) == (3000, 4.0)
    every = run_list.total(RUNS)
    assert (every.count, every.images, every.passes) == (3, "100 to 2,000", 13000)
    assert run_list.networks_behind(a_page(ENTRIES[1]), RUNS) is None
    assert run_list.networks_behind(a_page(ENTRIES[1], runs=["a"]), pd.DataFrame()) is None
    assert run_list.total(pd.DataFrame()) is None


def test_the_page_names_a_gpu_wherever_one_was_used(folder, tmp_path):
    there = a_recording(folder / "far", "device,hardware\ncuda,H\ncpu,C\n")
    pages = [a_page(ENTRIES[0], runs=["a", "c"]), a_page(ENTRIES[1])]
    site = a_site(tmp_path / "report", *pages, runs=RUNS, recordings=[there])
    page, text = page_text(site)
    assert "1 of 3 networks of this report (a <GPU>)" in text
    assert "1 of 2 networks of profile gpu, recorded 2030-01-01 (H)" in text
    assert "Without networks of the store: Title of doe_2." in text
    assert page.all("a", href="files/runs.csv", download=None)
    assert "Recorded on a chip" in text and "Recorded benchmarks" not in text


def test_without_a_gpu_the_page_says_so(folder, tmp_path):
    here = a_recording(folder / "near", None)
    runs = RUNS[RUNS.device == "cpu"]
    site = a_site(tmp_path / "report", a_page(ENTRIES[0], runs=["a"]), runs=runs, recordings=[here])
    for name, gpu in (("fleet", None), ("fleet-cuda", "an H")):
        text = json.dumps({"provenance": MADE | {"accelerator": gpu}})
        (folder / f"benchmarks/{name}.json").write_text(text)
    _, text = page_text(site)
    sentence = "No network of this report was trained on a GPU, and none of the recorded results"
    assert sentence in text
    assert "Speed was measured on one: fleet-cuda.json (an H)." in text
    assert "a <chip>, 2 cores" in text


def test_an_empty_report_says_what_it_lacks(folder, tmp_path):
    _, text = page_text(a_site(tmp_path / "report"))
    assert "No network of this report was trained on a GPU." in text
    assert "This report uses no trained networks." in text and "This checkout has none." in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"provenance": {}}', '{"provenance": 1}'])
def test_a_damaged_benchmark_is_named(folder, text):
    (folder / "benchmarks/fleet.json").write_text(text)
    with pytest.raises(UsageError, match=r"fleet\.json is damaged \(\w+\): .*delete it\.$"):
        run_list.benchmarks()


def test_a_recordings_damaged_list_is_named(folder):
    damaged = a_recording(folder / "far", "device\ncpu\n")
    with pytest.raises(UsageError, match=r"runs\.csv is damaged .* delete the recording\.$"):
        networks.on_gpu(pd.DataFrame(), [damaged])


def test_what_networks_cost_in_a_sentence():
    runs = pd.DataFrame({"run": ["a", "b", "c"], "seconds": [50.0, 60.0, 900.0]})
    assert networks.describe_cost(runs, ["a", "b", "other"]) == (
        "Its 2 networks took 2 minutes to train, summed over processes; those in the store are "
        "not trained again."
    )
    assert networks.describe_cost(runs, ["c"]).startswith("Its network took 15 minutes")
    assert networks.describe_cost(runs.head(1), ["a"]).startswith("Its network took 1 minute to")
    assert networks.describe_cost(runs, []) == networks.describe_cost(pd.DataFrame(), ["a"]) == ""


def test_every_recorded_table_of_this_checkout_can_be_listed():
    names = {path.name for path in (record.FOLDER / "benchmarks").glob("*.json")}
    assert names and {one.name for one in run_list.benchmarks()} == names
    assert [one for one in record.recordings() if one.notebooks]
