"""How often a claim is decided wrongly by made-up tables without the effect that it claims.

    .venv/bin/python benchmarks/null_data.py [--draws N] [--only CLAIM] [--output FILE]

For each claim that networks decide, a generator draws tables of networks under which the answer is
known, with all premises met and noise between seeds; `nulls` says what counts as false, and
its modules hold the generators. With intervals of 95 %, at most 29 of 400 draws are false (the
97.5 % quantile of the binomial distribution).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from nulls import Null
from nulls.beyond import BEYOND
from nulls.chen import CHEN
from nulls.guo import GUO
from nulls.zhou import ZHOU
from scipy import stats

from lsnc_core import files, provenance
from lsnc_core.claims import FAILS, HOLDS, LEVEL, UNDECIDED

# by claim and null
NULLS: dict[tuple[str, str], Null] = CHEN | BEYOND | GUO | ZHOU


def most_false(draws: int) -> int:
    """How many of so many draws may be false: the 97.5 % quantile at 5 %.

    >>> most_false(400)
    29
    """
    return int(stats.binom.ppf(1 - (1 - LEVEL) / 2, draws, 1 - LEVEL))


def count_outcomes(null: Null, draws: int, seed: int = 0) -> dict[str, int]:
    """How often a null gives each outcome, and how often one that is false.

    Raises:
        ValueError: where a premise is not met, so that nothing was tried.
    """
    generator, counts = np.random.default_rng(seed), dict.fromkeys((HOLDS, FAILS, UNDECIDED), 0)
    for _ in range(draws):
        verdict = null.decide(null.draw(generator))
        if verdict.unmet or not verdict.cases:
            raise ValueError(f"{verdict.claim.id}: {verdict.measured}")
        counts[verdict.outcome] += 1
    return counts | {"false": sum(counts[outcome] for outcome in null.false)}


def main() -> None:
    """Draw, decide, print a table, write it with the commit to a file."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--draws", type=int, default=400, help="of each null (default 400)")
    command.add_argument("--only", help="nulls of this claim alone")
    command.add_argument(
        "--output",
        type=Path,
        default=files.outputs_root() / "benchmarks" / "null_data.json",
        help="where the table goes",
    )
    given = command.parse_args()
    bound, rows = most_false(given.draws), []
    for (claim, name), null in NULLS.items():
        if given.only in (None, claim):
            counts = count_outcomes(null, given.draws)
            row = {"claim": claim, "null": name, "draws": given.draws} | counts
            rows.append(row | {"counted as false": list(null.false), "most": bound})
            verdict = "" if counts["false"] <= bound else f"  more than {bound}"
            print(f"{claim:<4} {name:<36} {counts}{verdict}", flush=True)
    text = json.dumps({"rows": rows, "provenance": provenance.describe()}, indent=1)
    files.write_whole(given.output, lambda path: path.write_text(text))
    print(f"written to {given.output}")


if __name__ == "__main__":
    main()
