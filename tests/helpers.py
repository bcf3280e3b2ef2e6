"""What several test files share: small specs, and what a table or an error is compared by."""

import dataclasses
import multiprocessing
import threading
import time

import numpy as np
import torch
from tqdm import tqdm

from lsnc_core import data_sources
from lsnc_core.report import schedule
from lsnc_core.runs.spec import RunSpec

# what may differ when the same network is trained twice
PROVENANCE = ["seconds", "finished"]


def a_spec(**changes):
    """The smallest network of all tests: an MLP on 40 digits, three epochs; with changes."""
    spec = RunSpec(
        data="digits",
        train_size=40,
        test_size=40,
        pool=1,
        model="mlp",
        widths=(8,),
        a=0.7,
        p=0.8,
        lr=0.05,
        momentum=0.9,
        weight_decay=0.0,
        batch=20,
        epochs=3,
        evaluate_at=(1, 3),
        seed=0,
        order_seed=0,
    )
    return dataclasses.replace(spec, **changes)


def a_cnn_spec(**changes):
    """A CNN on 60 digits, five epochs, whose last batch of an epoch is smaller; with changes."""
    settings = {
        "train_size": 60,
        "test_size": 50,
        "model": "cnn",
        "widths": (4, 6, 16),
        "batch": 13,
        "epochs": 5,
        "evaluate_at": (1, 5),
        "seed": 3,
        "order_seed": 11,
    }
    return a_spec(**settings | changes)


def a_resnet_spec(**changes):
    """A narrow ResNet-18 on 40 digits, two epochs; with changes."""
    settings = {
        "model": "resnet18",
        "widths": (2,),
        "lr": 0.02,
        "epochs": 2,
        "evaluate_at": (1, 2),
        "train_size": 40,
        "batch": 20,
    }
    return a_cnn_spec(**settings | changes)


def one_sentence(error):
    """Whether an error, or its text, is one sentence on one line."""
    return "\n" not in str(error) and "Traceback" not in str(error) and str(error).endswith(".")


def numbers(table):
    """A table of `runs.results` without what may differ when the same is trained twice."""
    return table.drop(columns=PROVENANCE)


def run_jobs(*arguments):
    """Run notebooks with nothing else in between; arguments as of `schedule.prepared`."""
    with schedule.prepared(*arguments) as run:
        return run()


def forked(action, *arguments):
    """A process to be started, a fork of this one, that runs an action."""

    def run():
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        # tqdm's own lock is shared with this process, which would wait for a fork killed with it
        tqdm.set_lock(threading.RLock())
        action(*arguments)

    return multiprocessing.get_context("fork").Process(target=run)


# sizes of the parts of image sets that tests make
SIZES = (12, 6)


def left_of(processes, seconds=60):
    """Those of psutil's processes that still live after so many seconds at most.

    One that has ended counts as ended although nobody has asked for its status yet.
    """
    end = time.monotonic() + seconds
    while (left := [one for one in processes if _lives(one)]) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def _lives(process):
    import psutil  # not there where only the metrics are installed

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def shrink(monkeypatch, name, classes):
    """Put the sizes of a made image set into the table of sources."""
    source = data_sources.SOURCES[name]
    small = dataclasses.replace(source, sizes=SIZES, num_classes=classes)
    monkeypatch.setitem(data_sources.SOURCES, name, small)


def loop_order(labels):
    """The documented order of images by another way: take turns among the classes."""
    waiting = []
    for k in range(max(labels) + 1):
        waiting.append([i for i, label in enumerate(labels) if label == k])
    order = []
    while any(waiting):
        order += [queue.pop(0) for queue in waiting if queue]
    return order


def same(image_set, parts):
    """Image by image, in the order that a loop makes."""
    for kind, images, labels in (("train", *parts[:2]), ("test", *parts[2:])):
        for at, index in enumerate(loop_order(labels.tolist())):
            assert np.array_equal(getattr(image_set, f"{kind}_images")[at].numpy(), images[index])
            assert getattr(image_set, f"{kind}_labels")[at] == labels[index]
        assert (
            len(getattr(image_set, f"{kind}_images"))
            == len(images)
            == len(getattr(image_set, f"{kind}_labels"))
        )
    return True
