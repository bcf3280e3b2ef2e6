"""The habits of a well-kept repository, as sp-repo-review checks them."""

from pathlib import Path

from repo_review.processor import process

ROOT = Path(__file__).resolve().parents[1]


def test_repo_review_finds_nothing_but_the_exceptions_in_pyproject():
    checks = process(ROOT).results
    # a wrong path would make every check pass or be skipped
    assert sum(check.result is True for check in checks) > 20
    assert [f"{check.name}: {check.description}" for check in checks if check.result is False] == []
