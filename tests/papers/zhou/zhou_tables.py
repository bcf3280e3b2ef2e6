"""Made-up tables of Zhou's grids, with effects that the tests choose; `nulls.zhou` has tables
without any, and those of collapse.
"""

from zhou_results import make_results

from lsnc_core.papers.zhou import networks, zhou_2_equal_accuracy


def make_grid(accuracy, widths=(4, 16), epochs=(10, 160), seeds=4, halved=None):
    """Tables of page 2: `accuracy(width, epochs, loss, seed)` in percent, `halved(loss, seed)` of
    the largest cell after half the schedule, by default as after all of it.
    """
    table = networks.accuracy_table(make_results(accuracy, widths, epochs, seeds))
    selected = zhou_2_equal_accuracy.select_epochs(table)
    widest, longest = widths[-1], epochs[-1]

    def cell(width, length, loss, seed):
        return halved(loss, seed) if halved else accuracy(width, longest, loss, seed)

    half = networks.accuracy_table(make_results(cell, (widest,), (longest // 2,), seeds))
    last = (table.epoch == longest) & (table.width == widest / 8)
    return zhou_2_equal_accuracy.Tables(
        "A recipe.",
        selected,
        zhou_2_equal_accuracy.cell_table(selected),
        table[last & (table.epochs == longest)],
        zhou_2_equal_accuracy.select_epochs(half),
    )
