"""Made-up tables of networks under which the answer to a claim is known, a module for each paper.

What counts as false depends on the null:

- The effect is absent, or lies exactly on the claim's bound ("no difference", "an error of 15 %"):
  "holds" and "does not hold" are both false, for only a difference to the bound could tell.
- The theory is exact: "holds" is right, only "does not hold" is false. Where the opposite is exact,
  only "holds" is.

Of a claim with several cases, "does not hold" is most often false where all of them lie on the
bound, "holds" where one does and the others surely hold. An open answer is never false.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsnc_core.claims import FAILS, HOLDS, Verdict


@dataclass(frozen=True)
class Null:
    """Made-up networks under which the answer to a claim is known.

    Attributes:
        decide: from a table, or several, to the claim's verdict.
        draw: from a random generator to what `decide` takes.
        false: the outcomes that are false.
    """

    decide: Callable[[Any], Verdict]
    draw: Callable[[np.random.Generator], Any]
    false: tuple[str, ...] = (HOLDS, FAILS)
