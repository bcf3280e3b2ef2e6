"""The page on trust: counts of premises and summaries of recorded simulations, by hand."""

import json
import statistics

import pytest
from elements import Elements
from test_reference import ENTRIES, a_page, a_site

from lsnc_core import claims
from lsnc_core.claims import Case, Claim, Premise, Verdict
from lsnc_core.errors import UsageError
from lsnc_core.report import record, trust

CLAIM = Claim("D1", "Doe", "1", "It holds.", "below 1")
MET = Premise("images fitted", 10, at_least=5)
MISSED = Premise("images fitted", 4, at_least=6)


def a_verdict(*cases, premises=()):
    return Verdict(CLAIM, "digits", cases, premises=premises).to_dict()


def a_row(kind, covered, case="one", level=0.95, seeds=4):
    row = {"interval": kind, "case": case, "seeds": seeds, "level": level, "covered": covered}
    return row | {"sets": 200}


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """The folder of recorded tables; a function that writes one."""
    monkeypatch.setattr(record, "FOLDER", tmp_path / "recorded")
    folder = tmp_path / "recorded/benchmarks"
    folder.mkdir(parents=True)
    return lambda name, text: (folder / f"{name}.json").write_text(text)


def test_coverage_is_summarised_by_kind_and_level():
    covered = [0.97, 0.91, 0.95, 0.99]
    rows = [a_row("rank", share, f"case {share}", seeds=9) for share in covered]
    rows += [a_row("argmin", 0.9), a_row("argmin", None), a_row("argmin", 0.98, level=0.99)]
    rows.append(a_row("a new kind", 0.5))
    one, other, rank, new = trust.summarise_coverage(rows)
    assert (one.kind, one.cases, one.least) == ("minimum of the mean curve", 1, 0.9)
    assert (other.level, other.least) == (0.99, 0.98)
    assert (rank.least, rank.median, rank.greatest) == (0.91, statistics.median(covered), 0.99)
    assert (rank.least_at, rank.greatest_at) == ("case 0.91, 9 seeds", "case 0.99, 9 seeds")
    assert new.kind == "a new kind"
    assert trust.summarise_coverage([]) == []


def test_premises_are_counted_over_answers_and_cases():
    case = Case("a", "x", 0.5, 0.4, 0.6, at_most=1, premises=(MISSED,))
    answers = [a_verdict(case, case, premises=(MET,)), a_verdict() | {"id": "D2"}]
    answers.append(a_verdict(premises=(MET,)) | {"id": "D3"})
    (count,) = trust.count_premises(answers)
    assert (count.name, count.met, count.checked) == ("images fitted", 1, 2)
    assert count.claims == ("D1", "D3") and count.needed == "at least 5; at least 6"


def test_a_premise_is_listed_with_what_it_measures():
    learned = Premise("learned", 0.2, at_most=0.1, where="a = 0.6", quantity="loss left")
    (count,) = trust.count_premises([a_verdict(premises=(learned,))])
    assert (count.name, count.needed) == ("learned: loss left", "at most 0.1")


def test_recorded_tables_are_read_or_named(tables):
    assert trust.read_rows("coverage", ("a",)) == []
    tables("coverage", json.dumps({"rows": [{"a": 1, "b": 2}]}))
    assert trust.read_rows("coverage", ("a",)) == [{"a": 1}]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 3}', '{"rows": [3]}', '{"rows": [{}]}'])
def test_a_damaged_table_is_named(tables, text):
    tables("coverage", text)
    sentence = (
        r"^the recorded table .*coverage\.json is damaged \(\w+\): restore it .* delete it\.$"
    )
    with pytest.raises(UsageError, match=sentence):
        trust.read_rows(*trust.COVERAGE)


def test_the_page_has_the_numbers_and_says_what_is_missing(tables, tmp_path):
    decided = a_verdict(Case("a", "x", 0.5, 0.4, 0.6, at_most=1), premises=(MET,))
    open_one = a_verdict() | {"id": "D0"}
    page = a_page(ENTRIES[0], verdicts=[open_one, decided])
    site = a_site(tmp_path / "report", page)
    trust.write(site)
    site.publish()
    text = (site.folder / "trust.html").read_text(encoding="utf-8")
    words = " ".join(Elements(text).texts("main")[0].split())
    assert "coverage.json is not at hand" in words and "null_data.json is not at hand" in words
    assert "1 of 1" in words and "D1 of this report comes from doe_1" in words
    assert "--profile quick --only doe_1 --outputs again" in words
    for outcome in (claims.HOLDS, claims.FAILS, claims.UNDECIDED):
        assert outcome in words

    tables("coverage", json.dumps({"rows": [a_row("rank", 0.876, "a < b")]}))
    null = {"claim": "D1", "null": "no <effect>", "draws": 400, "false": 28, "most": 29}
    null |= {claims.HOLDS: 1, claims.FAILS: 27, claims.UNDECIDED: 372}
    tables("null_data", json.dumps({"rows": [null | {"false": 3}, null]}))
    trust.write(site)
    site.publish()
    page = Elements((site.folder / "trust.html").read_text(encoding="utf-8"))
    words = " ".join(page.texts("main")[0].split())
    assert "87.6 %" in words and "a < b, 4 seeds" in words and "200 of each case" in words
    assert "20 of 400 draws should be decided wrongly, on average; up to 29 are" in words
    assert "The most were 28, of D1 (no <effect>)." in words


def test_the_recorded_tables_of_this_checkout_are_summarised():
    coverage, nulls = trust.read_rows(*trust.COVERAGE), trust.read_rows(*trust.NULLS)
    kinds = {row["interval"] for row in coverage}
    assert kinds == set(trust.KINDS)
    for row in trust.summarise_coverage(coverage):
        assert 0 <= row.least <= row.median <= row.greatest <= 1
    for row in nulls:
        assert row["draws"] == sum(row[outcome] for outcome in trust.SIGNS)


def test_the_verdict_to_repeat_is_one_that_networks_decided(tmp_path):
    case = Case("a", "x", 0.5, 0.4, 0.6, at_most=1)
    formula = Verdict(CLAIM, "The formulas", [case]).to_dict()
    follows = Verdict(CLAIM, "digits", [case], by_construction="as defined").to_dict()
    first = a_page(ENTRIES[0], verdicts=[formula, follows])
    second = a_page(ENTRIES[1], verdicts=[a_verdict(case) | {"id": "D2"}])
    example = trust._example(a_site(tmp_path, first, second))
    assert example == {"claim": "D2", "notebook": second.name}
    assert trust._example(a_site(tmp_path, first)) == {"claim": "", "notebook": first.name}
