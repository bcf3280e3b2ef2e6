"""Made-up answers to claims, as executed notebooks have them."""

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, Case, Claim, Premise, Verdict

MISSED = Premise("number of training images", 500, at_least=10_000, form=",.0f")
# estimate 1, 3 and 2 of a quantity claimed to be at most 2, with half-widths of 1/2
CASES = {
    HOLDS: Case("a = 0.5", "error", 1, 0.5, 1.5, at_most=2),
    FAILS: Case("a = 0.6", "error", 3, 2.5, 3.5, at_most=2),
    UNDECIDED: Case("a = 0.7", "error", 2.25, 1.75, 2.75, at_most=2),
}


def an_answer(
    *cases, name="C1", paper="A paper", tried_on="digits", notebook="one", changed="", **settings
):
    """The answer of a verdict on cases, or outcomes for which `CASES` has a case."""
    claim = Claim(name, paper, "section 1", "it holds", "at most 2", changed)
    listed = [CASES[case] if isinstance(case, str) else case for case in cases]
    verdict = Verdict(claim, tried_on, listed, **settings)
    return verdict.to_dict() | {"notebook": notebook, "page": f"{notebook}.html"}
