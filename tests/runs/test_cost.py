"""What training costs, counted by hand."""

import dataclasses

from helpers import a_spec

from lsnc_core.runs import cost


def test_what_a_network_keeps_for_the_backward_pass():
    """A linear layer keeps its input, a ReLU its output, which is the next one's input."""
    spec = a_spec(widths=(8, 5), batch=20)
    assert cost.kept_bytes(spec) == 20 * (64 + 8 + 5) * 4
    assert cost.kept_bytes(dataclasses.replace(spec, precision="bfloat16")) == 20 * (64 + 8 + 5) * 2
