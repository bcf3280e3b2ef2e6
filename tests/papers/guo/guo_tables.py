"""Made-up tables of Guo's networks with an effect of smoothing, and a store with the smoke
networks, for several test files; `nulls.guo` has tables without an effect.
"""

import contextlib

import pandas as pd
import pytest
from nulls.guo import describe_run, made_up_run

from lsnc_core import runs
from lsnc_core.papers.guo import measured, networks

OWN_LOSS = """def loss(logits, targets):
    log_q = logits.log_softmax(-1)
    return -(targets * log_q).sum(-1) - 0.1 * -(log_q.exp() * log_q).sum(-1)
"""


def made_up_history(better=1.0, seeds=4, strengths=(0.0, 0.05, 0.1, 0.5, 0.9)):
    """A table as `measured.fetch_history` gives it."""
    parts = []
    for delta in strengths:
        for seed in range(seeds):
            values = made_up_run(delta, seed, better)
            values |= {f"test_{name}": 2 * values[name] for name in measured.METRICS}
            parts.append(describe_run(delta, seed, values))
    return pd.concat(parts, ignore_index=True)


# ---- drawing and training


def texts_of(figure):
    """All texts of a figure, which was drawn when it was made."""
    artists = figure.drawing.findobj(lambda artist: hasattr(artist, "get_text"))
    return {artist.get_text() for artist in artists}


@contextlib.contextmanager
def trained_networks(folder):
    """The smoke networks of the training curves and one with a loss file of its own, trained in a
    store of their own: specs, history, tensors, the file.
    """
    own = folder / "my_loss.py"
    own.write_text(OWN_LOSS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(folder / "outputs"))
        specs = networks.plan_dynamics("smoke", ["ce", "ls", str(own)])
        history = measured.fetch_history(specs, "cpu")
        yield specs, history, runs.tensors(specs, "cpu"), own
