"""Training runs: what they are (`spec`), how many train at once (`fleet`), where they are kept (`store`), `results` to get them."""

from lsnc_core.runs.execute import choose_device, results
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store

__all__ = ["RunSpec", "Store", "choose_device", "results"]
