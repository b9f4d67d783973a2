"""The history checker finds what it is there for: each kind of broken promise, planted in a clean history."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.canonical import canonical
from domain.evolve import MIGRATION
from tests.faults.history import Record, check
from tests.faults.published import Kind
from tests.faults.replay import Replay, shipped_definitions
from tests.faults.synthetic import Told, clean, definitions
from tests.faults.test_promises import PLANTED as PROMISES

Plant = Callable[[Told], object]


def lost_record(told: Told) -> None:
    """Suppose the broker forgets the last command, which it had taken."""
    del told.commands[-1]


def never_sent(told: Told) -> None:
    """Suppose a record turns up that is not in the client's log."""
    del told.log[-1]


def lost_reply(told: Told) -> None:
    """Suppose a reply does not reach its topic."""
    del told.replies[100]


def doubled_reply(told: Told) -> None:
    """Suppose a reply is published again at once."""
    told.replies.insert(101, told.replies[100])


def lost_event(told: Told) -> None:
    """Suppose an event does not reach its topic."""
    del told.events[20]


def doubled_event(told: Told) -> None:
    """Suppose an event is published again, later."""
    told.events.append(told.events[20])


def swapped_events(told: Told) -> None:
    """Suppose two events of one partition change places."""
    told.events[20], told.events[21] = told.events[21], told.events[20]


def swapped_in_the_store(told: Told) -> None:
    """Suppose two commands of a workflow are committed in the order in which they were not sent."""
    first = told.journal[30]
    second = next(row for row in told.journal[31:] if row["workflow_id"] == first["workflow_id"])
    first["record_offset"], second["record_offset"] = second["record_offset"], first["record_offset"]


def of_no_commit(told: Told) -> None:
    """Suppose an event is published whose turn was rolled back."""
    record = told.events[20]
    headers = [(name, b"0" if name == "ce_id" else text) for name, text in record.headers]
    told.events.insert(20, replace(record, headers=headers))


def altered_event(told: Told) -> None:
    """Suppose an event says something else than its row."""
    told.events[20] = _with(told.events[20], message="another")


def lost_row(told: Told) -> None:
    """Suppose a committed row is gone."""
    del told.journal[50]


def decided_twice(told: Told) -> None:
    """Suppose a zombie's turn is committed after that of the new owner: the last command's outcome is there twice."""
    again = dict(told.journal[-1]) | {"seq": len(told.journal) + 1}
    told.journal.append(again)
    told.replies.append(told.replies[-1])
    told.partitions[0]["next_seq"] += 1
    told.partitions[0]["published_seq"] += 1


def left_undecided(told: Told) -> None:
    """Suppose the last command has no outcome at all."""
    place = told.commands[-1].place
    told.journal = [row for row in told.journal if f"0/{row['record_offset']}" != place]
    told.replies = [record for record in told.replies if record.header("ce_id") != place]


def left_unpublished(told: Told) -> None:
    """Suppose the relay stopped before the end."""
    told.partitions[0]["published_seq"] -= 3


def wrong_event_version(told: Told) -> None:
    """Suppose row, event and topic agree, yet a version is left out."""
    _both(told, told.event(20)["event_id"], version=99)


def from_another_state(told: Told) -> None:
    """Suppose an event starts where the one before it did not end."""
    number = next(n for n in range(20, len(told.events)) if "from_state" in told.event(n))
    _both(told, told.event(number)["event_id"], from_state="NOWHERE")


def reply_says_otherwise(told: Told) -> None:
    """Suppose a reply names another version than its event."""
    _reply(told, _accepted(told), version=99)


def reply_without_event(told: Told) -> None:
    """Suppose a refusal is told as if it had been accepted."""
    place = next(place for place, reply in _replies(told) if reply["outcome"] == "rejected")
    _reply(told, place, outcome="accepted", events=[], version=1, rejection=None)


def other_answer_to_a_repeat(told: Told) -> None:
    """Suppose a repeat is answered with something else than the first reply."""
    place = next(place for place, reply in _replies(told) if reply.get("duplicate"))
    _reply(told, place, version=99)


def unexpected_version(told: Told) -> None:
    """Suppose a command is accepted on a version that it does not expect."""
    place = _accepted(told)
    at = next(n for n, record in enumerate(told.commands) if record.place == place)
    body = orjson.loads(told.commands[at].value or b"") | {"expected_version": 77}
    told.commands[at] = replace(told.commands[at], value=orjson.dumps(body))


def before_its_cause(told: Told) -> None:
    """Suppose someone saw the reply to a later command before they sent the earlier one."""
    places = [place for place, reply in _replies(told) if reply["workflow_id"] == "w-1-3"]
    told.answers[places[-1]] = -1.0


def judged_on_an_old_state(told: Told) -> None:
    """Suppose a refusal shows the state that its workflow had left."""
    place = next(
        place
        for place, reply in _replies(told)
        if reply["outcome"] == "rejected" and reply.get("version", 1) > 1 and not reply.get("duplicate")
    )
    _reply(told, place, version=1)


def other_row(told: Told) -> None:
    """Suppose a row is changed behind its history."""
    told.workflows[3]["body"] = told.workflows[3]["body"].replace('"version":', '"version":1')


def wrong_column(told: Told) -> None:
    """Suppose a row's column is not its body."""
    told.workflows[3]["state"] = "NOWHERE"


def missing_row(told: Told) -> None:
    """Suppose a workflow has events and no row."""
    del told.workflows[3]


def wrong_counter(told: Told) -> None:
    """Suppose a counter is one too high."""
    told.counters[0]["open"] += 1


def dead_letter_lost(told: Told) -> None:
    """Suppose a dead letter does not reach its topic."""
    del told.dead_letters[0]


PLANTED: dict[Plant, set[Kind]] = {
    lost_record: {Kind.LOST_RECORD, Kind.INVENTED_OUTCOME},
    never_sent: {Kind.NOT_SENT},
    lost_reply: {Kind.LOST, Kind.NO_OUTCOME},
    doubled_reply: {Kind.DOUBLED},
    lost_event: {Kind.LOST},
    doubled_event: {Kind.DOUBLED},
    swapped_events: {Kind.REORDERED},
    swapped_in_the_store: {Kind.OUT_OF_TURN},
    of_no_commit: {Kind.INVENTED},
    altered_event: {Kind.ALTERED, Kind.LOST},
    lost_row: {Kind.GAP, Kind.INVENTED},
    decided_twice: {Kind.DECIDED_TWICE, Kind.DOUBLED},
    left_undecided: {Kind.NO_OUTCOME, Kind.GAP},
    left_unpublished: {Kind.UNFINISHED},
    wrong_event_version: {Kind.BROKEN_CHAIN, Kind.DISAGREES, Kind.STALE},
    from_another_state: {Kind.BROKEN_CHAIN},
    reply_says_otherwise: {Kind.DISAGREES},
    reply_without_event: {Kind.DISAGREES},
    other_answer_to_a_repeat: {Kind.WRONG_REPEAT},
    unexpected_version: {Kind.WRONG_VERSION},
    before_its_cause: {Kind.BEFORE_ITS_CAUSE},
    judged_on_an_old_state: {Kind.STALE},
    other_row: {Kind.NOT_THE_FOLD},
    wrong_column: {Kind.NOT_THE_FOLD},
    missing_row: {Kind.NOT_THE_FOLD},
    wrong_counter: {Kind.MISCOUNTED},
    dead_letter_lost: {Kind.LOST, Kind.NO_OUTCOME},
}


async def test_a_clean_history_passes() -> None:
    """Nothing is found where nothing is wrong, and everything that can be looked at was."""
    findings = check((await clean()).history())
    assert [] == findings.violations
    looked_at = ("accepted", "refused", "duplicates", "dead letters", "events", "commands sent after a reply")
    assert {} == {name: findings.counts[name] for name in looked_at if findings.counts[name] < 5}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_each_planted_violation_is_found(plant: Plant) -> None:
    """One thing is made wrong; it is found under its name."""
    told = await clean()
    plant(told)
    found = check(told.history()).kinds
    assert PLANTED[plant] == found & PLANTED[plant]


def test_every_kind_of_violation_is_planted_somewhere() -> None:
    """No kind is there that no test has seen found."""
    elsewhere = {Kind.DOUBLED_OUTCOME, Kind.DECIDED_OTHERWISE}
    assert set(Kind) - elsewhere == set().union(*PLANTED.values(), *PROMISES.values())


async def test_a_command_may_be_turned_away_before_those_that_wait() -> None:
    """Where too many are parked the next one is refused at once, and those before it are decided later."""
    told = await clean()
    swapped_in_the_store(told)
    first = told.journal[30]
    assert [Kind.OUT_OF_TURN] == [each.kind for each in check(told.history()).violations if "comes after" in each.what]
    refused = {"code": "PREDICATE_UNAVAILABLE", "why": {"clause": "parked < parked_max"}}
    first["reply"] = canonical(orjson.loads(first["reply"]) | {"rejection": refused})
    assert Kind.OUT_OF_TURN not in check(told.history()).kinds


async def test_two_different_outcomes_of_one_command_are_found() -> None:
    """A command that was answered and is a dead letter as well has two outcomes."""
    told = await clean()
    letter = orjson.loads(told.dead_letters[0].value or b"")
    place = told.replies[0].header("ce_id")
    again = letter | {"offset": told.commands[0].offset}
    told.dead_letters.insert(0, replace(told.dead_letters[0], value=canonical(again)))
    told.journal.insert(1, dict(told.journal[0]) | {"kind": "dead_letter", "event": canonical(again), "reply": None})
    found = [each.where for each in check(told.history()).violations if each.kind is Kind.DOUBLED_OUTCOME]
    assert [place] == found


@pytest.mark.parametrize(("published", "expected"), [(2, set()), (1, {Kind.LOST}), (3, {Kind.DOUBLED})])
async def test_a_tick_may_be_put_aside_by_two_owners(published: int, expected: set[Kind]) -> None:
    """A tick has no exactly-once position: each owner may leave its letter, and each letter is published once."""
    told = await clean()
    letter = orjson.loads(told.dead_letters[0].value or b"") | {"topic": "turnstile.scheduler", "offset": 0}
    last = next(row for row in reversed(told.journal) if row["kind"] == "dead_letter")
    for _ in range(2):
        told.journal.append(last | {"seq": len(told.journal) + 1, "event": canonical(letter)})
    told.dead_letters += published * [replace(told.dead_letters[0], value=canonical(letter))]
    told.partitions[0] |= {name: len(told.journal) + 1 for name in ("next_seq", "published_seq")}
    assert expected == check(told.history()).kinds


@pytest.mark.parametrize("plant", [doubled_event, doubled_reply], ids=lambda plant: plant.__name__)
async def test_where_repeats_are_allowed_they_are_counted(plant: Plant) -> None:
    """At least once: a record that comes again word for word is no violation, and no more than counted."""
    told = await clean()
    plant(told)
    findings = check(told.history(), repeats=True)
    assert ([], 1) == (findings.violations, findings.counts["repeats"])


async def test_a_repeat_with_other_words_is_a_violation_in_any_mode() -> None:
    """At least once: the same id with another body is found."""
    told = await clean()
    told.events.append(_with(told.events[20], message="another"))
    assert {Kind.ALTERED} == check(told.history(), repeats=True).kinds


async def test_decisions_made_again_come_out_the_same() -> None:
    """The pure decision over the journal gives each reply and event that was committed."""
    told = await clean()
    replay = Replay({0: UUID(int=1)}, shipped_definitions().values())
    assert [] == await replay.again(told.journal, told.commands)
    assert replay.counts["decided again"] > 300


async def test_another_decision_is_found_by_deciding_again() -> None:
    """A refusal that nothing in the history explains is found, though every source agrees on it."""
    told = await clean()
    times = Counter(reply["command_id"] for _, reply in _replies(told))
    place, rejection = next(
        (place, reply["rejection"])
        for place, reply in _replies(told)
        if reply.get("rejection", {}).get("code") == "GUARD_DENIED" and times[reply["command_id"]] == 1
    )
    _reply(told, place, rejection=rejection | {"code": "VERSION_CONFLICT"})
    assert [] == check(told.history()).violations
    replay = Replay({0: UUID(int=1)}, shipped_definitions().values())
    assert [place] == [each.where for each in await replay.again(told.journal, told.commands)]


async def test_migrations_keep_every_promise_and_come_out_the_same() -> None:
    """A history with migrations and undos is clean, and each is decided again as it was."""
    told = await clean(1000, migrating=True)
    assert [] == check(told.history()).violations
    replay = Replay({0: UUID(int=1)}, definitions())
    assert [] == await replay.again(told.journal, told.commands)
    undone = ["undoes" in body["details"] for body in _migrations(told)]
    assert (True, True) == (sum(undone) > 5, undone.count(False) > 20)
    assert replay.counts["migrations decided again"] > 50


async def test_a_forged_migration_is_found_by_deciding_again() -> None:
    """A migration to a state that its command did not ask for, though store and topic agree on it."""
    told = await clean(1000, migrating=True)
    *_, event = _migrations(told)
    _both(told, event["event_id"], to_state="NOWHERE")
    found = await Replay({0: UUID(int=1)}, definitions()).again(told.journal, told.commands)
    assert Kind.DECIDED_OTHERWISE in {each.kind for each in found}


def _migrations(told: Told) -> Iterator[dict[str, Any]]:
    for record in told.events:
        body = orjson.loads(record.value or b"")
        if body["category"] == MIGRATION:
            yield body


def _replies(told: Told) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in told.replies:
        yield record.header("ce_id") or "", orjson.loads(record.value or b"")


def _accepted(told: Told) -> str:
    return next(
        place for place, reply in _replies(told) if reply["outcome"] == "accepted" and not reply.get("duplicate")
    )


def _with(record: Record, **fields: Any) -> Record:  # noqa: ANN401 - any JSON value
    body = orjson.loads(record.value or b"") | fields
    return replace(record, value=canonical({name: said for name, said in body.items() if said is not None}))


def _reply(told: Told, place: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
    """Change a reply in the store and on its topic alike."""
    at = next(number for number, record in enumerate(told.replies) if record.header("ce_id") == place)
    told.replies[at] = _with(told.replies[at], **fields)
    for row in told.journal:
        if f"0/{row['record_offset']}" == place:
            row["reply"] = told.replies[at].value


def _both(told: Told, event_id: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
    """Change an event in the store and on its topic alike."""
    at = next(number for number, record in enumerate(told.events) if record.header("ce_id") == event_id)
    before = told.events[at].value
    told.events[at] = _with(told.events[at], **fields)
    for row in told.journal:
        if row["event"] == before:
            row["event"] = told.events[at].value
