"""Training runs: a description (`spec`), many trained together (`fleet`), kept on disk (`store`);
`results` and `tensors` get them.
"""

from lsnc_core.runs.execute import choose_device, results, tensors
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store

__all__ = ["RunSpec", "Store", "choose_device", "results", "tensors"]
