"""Shards: every network exactly once, balanced, and the same blocks as on one machine."""

import dataclasses
import itertools
import operator

import pandas as pd
import pytest
from helpers import a_spec, numbers, one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, shards, store

KINDS = [a_spec(model="resnet18", widths=(2,))]
for widths, epochs in itertools.product([(8,), (16,), (64,)], [3, 30]):
    KINDS.append(a_spec(widths=widths, epochs=epochs, evaluate_at=(epochs,)))
SEEDS = range(45)
SPECS = {}
for kind in KINDS:
    SPECS[kind] = [dataclasses.replace(kind, seed=seed) for seed in SEEDS]
AMOUNTS = st.lists(st.integers(0, len(SEEDS)), min_size=len(KINDS), max_size=len(KINDS))


def sizes(spec):
    return execute.block_size(spec, "cpu")


@settings(deadline=None, max_examples=25)
@given(AMOUNTS, st.integers(1, 9))
def test_shards_cover_every_network_once_in_the_blocks_of_one_machine(amounts, count):
    specs = []
    for kind, amount in zip(KINDS, amounts, strict=True):
        specs += SPECS[kind][:amount]
    specs = specs[::2] + specs[1::2]  # kinds in turn
    whole = execute.blocks(specs, sizes)
    dealt = shards.deal(specs, "cpu", count)
    assert len(dealt) == count and shards.deal(specs * 2, "cpu", count) == dealt
    cut = [execute.blocks(shard, sizes) for shard in dealt]
    place = {block[0]: number for number, block in enumerate(whole)}
    together = sorted(itertools.chain.from_iterable(cut), key=lambda block: place[block[0]])
    assert together == whole  # so all specs, each once

    # a shard got its last block when it had least, so it has no more than that above the mean
    load = [sum(map(shards.block_operations, parts)) for parts in cut]
    work = [shards.block_operations(block) for block in whole]
    assert max(load) <= (sum(work) + (count - 1) * max(work, default=0)) / count


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(1, 3))
def test_no_shard_has_more_than_four_thirds_of_the_best_possible(epochs, count):
    specs = []
    for number, end in enumerate(epochs):  # of another batch order, each is a block of its own
        specs.append(a_spec(epochs=end, evaluate_at=(end,), order_seed=number))
    ends = operator.attrgetter("epochs")
    load = [sum(map(ends, shard)) for shard in shards.deal(specs, "cpu", count)]
    best = sum(epochs)
    for places in itertools.product(range(count), repeat=len(epochs)):
        trial = [0] * count
        for place, end in zip(places, epochs, strict=True):
            trial[place] += end
        best = min(best, max(trial))
    assert best <= max(load) <= (4 / 3 - 1 / (3 * count)) * best + 1e-9


def test_the_largest_go_out_first_and_one_resnet_is_one_piece():
    resnets = SPECS[KINDS[0]][:4]
    dealt = shards.deal([*SPECS[KINDS[1]], *resnets], "cpu", 4)
    assert [len(set(shard) & set(resnets)) for shard in dealt] == [1, 1, 1, 1]


def test_shards_that_are_trained_apart_have_the_bits_of_one_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 2)
    pairs = itertools.product(range(3), (10, 20))
    specs = [a_spec(seed=seed, batch=batch) for seed, batch in pairs]
    whole = execute.results(specs, "cpu", store.Store(tmp_path / "whole"))
    apart = []
    for number, shard in enumerate(shards.deal(specs, "cpu", 3)):
        apart.append(execute.results(shard, "cpu", store.Store(tmp_path / str(number))))
    assert all(len(table) for table in apart)
    in_order = numbers(pd.concat(apart)).sort_values(["run", "epoch"], ignore_index=True)
    assert in_order.equals(numbers(whole).sort_values(["run", "epoch"], ignore_index=True))


# which shard this is


def test_a_shard_by_its_number():
    assert shards.shard_of("1/1") == (1, 1) and shards.shard_of("16/16") == (16, 16)
    assert str(shards.shard_of("3/16")) == "shard 3/16"


@pytest.mark.parametrize(
    "text",
    [
        "0/4",
        "5/4",
        "1/0",
        "-1/4",
        "1",
        "a/b",
        "1/4/2",
        "1 /4",
        "1/4\n",
        "٣/٤",
        "1.0/2",
        "1/1000000",
    ],
)
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match=r"takes I/N, with I from 1 to N") as caught:
        shards.shard_of(text)
    assert one_sentence(caught.value)


def slurm(**values):
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("tasks", "step"),
    [(range(16), 1), (range(1, 17), 1), (range(5, 6), 1), (range(1, 8, 2), 2)],
    ids=["0-15", "1-16", "5", "1-7:2"],
)
def test_a_slurm_array_is_covered_wherever_it_starts(tasks, step):
    found = []
    for task in tasks:
        values = {"COUNT": len(tasks), "MIN": tasks[0], "MAX": tasks[-1], "STEP": step}
        found.append(shards.shard_of("", slurm(ID=task, **values)))
    assert found == [(number, len(tasks)) for number in range(1, len(tasks) + 1)]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "SLURM_ARRAY_TASK_ID is not set"),
        (slurm(ID=3), "not whole numbers or incomplete"),
        (slurm(ID="x", COUNT=4), "not whole numbers or incomplete"),
        (slurm(ID=9, COUNT=3, MIN=1, MAX=9, STEP=1), "an array with gaps"),  # --array=1,5,9
        (slurm(ID=5, COUNT=3, MIN=1, MAX=9, STEP=1), "with gaps"),
        (slurm(ID=1, COUNT=3, MIN=1, MAX=3, STEP=0), "with gaps"),
    ],
)
def test_an_array_that_leaves_the_part_open_is_refused(environment, words):
    with pytest.raises(UsageError, match=words.replace("an array", "a Slurm array")) as caught:
        shards.shard_of("", environment)
    assert one_sentence(caught.value) and "--shard 3/16" in str(caught.value)
