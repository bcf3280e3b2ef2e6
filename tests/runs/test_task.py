"""Blocks as tasks: any executor gives the same bits, and a task brings what it needs or refuses."""

import dataclasses
import itertools
import multiprocessing
import pickle
import platform
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import a_spec, numbers, one_sentence

from lsnc_core import custom, data
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, products, progress, store, task

pytestmark = pytest.mark.usefixtures("own_outputs")

SPECS = [a_spec(seed=seed, a=a) for seed, a in itertools.product(range(2), (0.4, 0.7))]
SPECS += [a_spec(model="cnn", widths=(3, 4, 8), seed=seed) for seed in range(2)]


class OneByOne(Executor):
    """Carries out each task when it is submitted, through pickle as another process would."""

    def submit(self, function, /, *arguments):
        future = Future()
        try:
            arguments = pickle.loads(pickle.dumps(arguments))
            future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        except BaseException as error:
            future.set_exception(error)
        return future


def arrays(shelf, specs):
    """All stored arrays as bytes."""
    found = []
    for spec in specs:
        for row in shelf.tensors(spec):
            found.append({name: array.tobytes() for name, array in row.items()})
    return found


# executors


def test_every_executor_gives_the_bits_of_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 2)
    monkeypatch.setattr(execute, "SOON", 0)
    monkeypatch.setattr(execute, "cores", lambda: 2)
    spawned = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    executors = {"local pool": None, "threads": ThreadPoolExecutor(2), "processes": spawned}
    tables, stores = {}, {}
    for name, executor in executors.items():
        stores[name] = store.Store(tmp_path / name)
        tables[name] = numbers(execute.results(SPECS, "cpu", stores[name], executor))
        if executor:
            executor.shutdown()
    monkeypatch.setattr(execute, "SOON", float("inf"))
    alone = store.Store(tmp_path / "alone")
    expected = numbers(execute.results(SPECS, "cpu", alone))
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, expected, check_exact=True, obj=name)
        assert arrays(stores[name], SPECS) == arrays(alone, SPECS)
        assert not list((tmp_path / name).glob("unfinished/*"))


def test_the_device_of_an_executor_need_not_be_here(shelf, monkeypatch):
    asked = []

    def carried_out(one):
        asked.append(one.device)
        return task.carry_out(dataclasses.replace(one, device="cpu"))

    monkeypatch.setattr(execute, "carry_out", carried_out)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with ThreadPoolExecutor(1) as executor:
        table = execute.results(SPECS[:1], "cuda", shelf, executor)
        assert asked == ["cuda"] and len(table) == 2
        assert len(execute.tensors(SPECS[:1], "cuda", shelf, executor)) == 1


def test_where_one_block_fails_what_ended_with_it_is_stored(shelf, monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 1)
    ended = threading.Barrier(2)

    def fails_for_the_first(one):
        finished = None if one.specs[0] == SPECS[0] else task.carry_out(one)
        ended.wait(60)
        if finished is None:
            raise UsageError("this block fails.")
        return finished

    monkeypatch.setattr(execute, "carry_out", fails_for_the_first)
    with ThreadPoolExecutor(2) as executor, pytest.raises(UsageError, match="this block fails"):
        execute.results(SPECS[:2], "cpu", shelf, executor)
    assert shelf.get(SPECS[0]) is None and shelf.get(SPECS[1]) is not None


def test_a_worker_from_which_nothing_comes_is_named_with_its_block(shelf, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(progress, "LEAST_SPEED", {"cpu": 1e15})
    go_on = threading.Event()
    monkeypatch.setattr(execute, "carry_out", lambda one: go_on.wait(60))
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(
            UsageError,
            match=r"a worker has reported nothing for .* while training 2 networks "
            r"\(mlp, 3 epochs on digits, seed 0, a = 0.4, p = 0.8\); what had finished is stored",
        ) as caught:
            execute.results(SPECS[:2], "cpu", shelf, executor)
        go_on.set()
    assert one_sentence(caught.value)


def test_the_time_limit_follows_the_speed_of_what_finished(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    watch = progress.Watch("cpu")
    for second in range(0, progress.QUIET_SECONDS + 99, 50):
        now[0] = second
        assert not watch.waits_in_vain(0) or second > progress.QUIET_SECONDS
    now[0] = progress.QUIET_SECONDS + 99
    assert not watch.waits_in_vain(10**10) and watch.waits_in_vain(10**9)
    watch.measure(10**12, 10.0)  # 1e11 a second: none is slower than a twentieth of it
    assert watch.waits_in_vain(98 * 5 * 10**9) and not watch.waits_in_vain(100 * 5 * 10**9)
    watch.measure(10**12, 1000.0)
    assert not watch.waits_in_vain(10**10)
    watch.hear()
    assert watch.quiet_seconds() == 0


def test_a_job_that_was_stopped_as_a_whole_goes_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    watch = progress.Watch("cpu")
    now[0] = 10.0
    assert not watch.waits_in_vain(0)
    now[0] += 100_000
    assert not watch.waits_in_vain(0) and watch.quiet_seconds() == 10
    for _ in range(progress.QUIET_SECONDS // 50):
        now[0] += 50
        vain = watch.waits_in_vain(0)
    assert vain


def test_training_on_a_cpu_does_not_import_torchs_compiler(monkeypatch):
    # which is what this does whether it changes anything or not, for seconds in every process
    monkeypatch.setattr("torch.use_deterministic_algorithms", None)
    with task.settled("cpu"):
        assert torch.get_num_threads() == 1


# what a task carries


def moved(one, **changes):
    """The task as another machine receives it."""
    received = pickle.loads(pickle.dumps(one))
    return dataclasses.replace(received, host="elsewhere", **changes)


def made(spec, shelf, carry=True):
    return task.make_task([spec], {spec}, "cpu", shelf, products.BY_DEFAULT, carry)


LOSS = "from beside import power\n\n\ndef loss(logits, targets):\n"
LOSS += "    return -(targets * logits.log_softmax(-1)).sum(-1) ** power\n"


@pytest.fixture
def own_files(tmp_path):
    """A loss with a module beside it, and labels in a file: settings of a spec."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_loss.py").write_text(LOSS)
    (folder / "beside.py").write_text("power = 1\n")
    labels = np.random.default_rng(0).integers(0, 10, 1200)
    labels[:600] = np.arange(600) % 10
    np.savez(folder / "labels.npz", human=labels)
    return {
        "loss": str(folder / "my_loss.py"),
        "noise": f"{folder}/labels.npz:human",
        "a": 1.0,
    }


@pytest.mark.filterwarnings("ignore:.*no more than by chance")
def test_files_of_your_own_go_along_to_a_machine_without_them(
    shelf, own_files, tmp_path, monkeypatch
):
    spec = a_spec(**own_files)
    one = made(spec, shelf)
    expected = task.carry_out(one).trained[0]
    sent = moved(one)
    (tmp_path / "mine").rename(tmp_path / "gone")
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "there"))
    for _ in range(2):
        custom.forget()
        received = task.carry_out(sent).trained[0]
        assert received.history == expected.history
        kept = [path.name for path in (tmp_path / "there/cache/own").rglob("*.*")]
        assert sorted(kept) == ["beside.py", "labels.npz", "my_loss.py"]
    with pytest.raises(UsageError, match=r"my_loss\.py cannot be read"):
        task.carry_out(dataclasses.replace(sent, own_files={}))


def test_a_file_that_differs_there_is_not_taken_for_the_one_that_was_sent(
    shelf, own_files, tmp_path, monkeypatch
):
    spec = a_spec(loss=own_files["loss"])
    one = made(spec, shelf)
    expected = task.carry_out(one).trained[0]
    (tmp_path / "mine" / "beside.py").write_text("power = 3\n")
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "there"))
    custom.forget()
    assert task.carry_out(moved(one)).trained[0].history == expected.history


def test_another_machine_is_refused_where_it_differs(shelf, monkeypatch):
    one = made(a_spec(), shelf)
    (context,) = one.contexts
    worker = rf"the worker on {platform.node()} \(process \d+\)"
    cases = {
        "has torch .*, but the networks were asked for with torch 9.9": {
            "versions": one.versions | {"torch": "9.9"}
        },
        "has another version of lsnc_core or of your own files .*it differs in engine": {
            "contexts": (context | {"engine": "0"},)
        },
        "has other images of digits": {"contexts": (context | {"data": "0"},)},
    }
    for sentence, changes in cases.items():
        for act in (task.carry_out, lambda sent: task.can_train([sent])):
            with pytest.raises(UsageError, match=f"{worker} {sentence}") as caught:
                act(moved(one, **changes))
            assert one_sentence(caught.value)

    def no_data(name):
        raise UsageError("digits is not in a folder.")

    assert task.can_train([moved(one)]) in (True, False)
    monkeypatch.setattr(data, "load", no_data)
    with pytest.raises(UsageError, match=f"{worker} cannot train: digits is not in a folder"):
        task.can_train([moved(one)])


def test_settings_go_along_and_are_put_back(shelf, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("LSNC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LSNC_DETERMINISTIC", "1")
    monkeypatch.delenv("LSNC_OFFLINE", raising=False)
    sent = moved(made(a_spec(), shelf))
    monkeypatch.delenv("LSNC_DETERMINISTIC")
    seen = []

    def look(*arguments):
        seen.append((task.files.data_root(), task.files.deterministic(), task.files.offline()))
        raise UsageError("enough.")

    monkeypatch.setattr(task, "_train_together", look)
    for named in (None, str(tmp_path)):
        if named:  # a worker that says where its images are
            monkeypatch.setenv("LSNC_DATA", named)
        else:
            monkeypatch.delenv("LSNC_DATA")
        monkeypatch.setenv("LSNC_OFFLINE", "1")
        with pytest.raises(UsageError, match="enough"):
            task.carry_out(sent)
        assert task.files.offline() and not task.files.deterministic()
    assert seen == [(tmp_path / "data", True, False), (tmp_path, True, False)]


def test_a_library_for_products_is_that_of_the_processor_that_trains(shelf, monkeypatch):
    routes = dict.fromkeys(products.KINDS, products.ONEDNN)
    one = task.make_task([a_spec()], {a_spec()}, "cpu", shelf, routes, True)
    assert task.carry_out(moved(one)).made["products"] == routes
    other = task.carry_out(moved(one, processor="another"))
    assert other.made["products"] == products.BY_DEFAULT


def test_a_checkpoint_lies_in_the_store_where_it_is_seen_and_else_in_the_outputs_there(
    shelf, tmp_path, monkeypatch
):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "there"))
    monkeypatch.setattr("lsnc_core.runs.preemptible.SECONDS", 0)
    one = made(a_spec(), shelf)
    assert task._checkpoint(one) == one.checkpoint
    there = task._checkpoint(moved(one))
    assert there == tmp_path / "there/runs/unfinished" / one.checkpoint.name
    seen = []
    train = task._train_together

    def look(*arguments):
        trained = train(*arguments)
        seen.append(there.exists())
        return trained

    monkeypatch.setattr(task, "_train_together", look)
    task.carry_out(moved(one))
    assert seen == [True] and not there.exists()
    shelf.folder.mkdir()
    assert task._checkpoint(moved(one)) == one.checkpoint


def test_provenance_is_that_of_the_process_that_trained(shelf, monkeypatch):
    monkeypatch.setattr(execute, "carry_out", lambda one: finished_elsewhere(one))

    def finished_elsewhere(one):
        finished = task.carry_out(one)
        return finished._replace(made=finished.made | {"processor": "another", "commit": "c0ffee"})

    row = execute.results([a_spec()], "cpu", shelf, OneByOneHere()).iloc[0]
    assert row.hardware == "another" and row.commit == "c0ffee"


class OneByOneHere(OneByOne):
    """As OneByOne, for functions that cannot be pickled."""

    def submit(self, function, /, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future
