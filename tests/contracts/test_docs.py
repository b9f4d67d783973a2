"""Holds the tables of docs/errors.md and docs/topics.md against the contracts."""

import re
from pathlib import Path

from contracts.dead_letters import DeadLetterReason
from contracts.rejections import RETRYABLE, STATUS, Code
from contracts.topics import Topics

DOCS = Path(__file__).parents[2] / "docs"


def _rows(name: str, first: str) -> list[list[str]]:
    """Read the cells of the table whose first heading is `first`."""
    _, _, after = (DOCS / name).read_text(encoding="utf-8").partition(f"\n| {first} |")
    lines = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_code_is_listed_in_its_order_with_its_status() -> None:
    """The order of the checks, the HTTP statuses and who may try again are those of the contract."""
    listed = [(code, status, retryable) for code, status, retryable, _, _ in _rows("errors.md", "code")]
    assert [(code.value, str(STATUS[code]), "yes" if code in RETRYABLE else "no") for code in Code] == [
        (code.strip("|` "), status, retryable) for code, status, retryable in listed
    ]


def test_every_reason_of_a_dead_letter_is_listed() -> None:
    """A reason nobody explains helps nobody."""
    assert [reason.value for reason in DeadLetterReason] == [
        row[0].strip("|` ") for row in _rows("errors.md", "reason")
    ]


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    """No cell is empty, and each sentence ends."""
    for row in _rows("errors.md", "code") + _rows("errors.md", "reason"):
        assert all(re.fullmatch(r"\S.*\.", cell.rstrip("| ")) for cell in row[-2:]), row


def test_every_topic_is_listed() -> None:
    """The topics page names all of them."""
    assert set(Topics().all()) == {row[0].strip("|` ") for row in _rows("topics.md", "topic")}
