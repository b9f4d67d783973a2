"""What one partition's publishers did: each start fences the one before, each row is in one transaction."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from tests.spec.steps import Account, Call, Event

FIRST_SEQ = 1


def published(part: int, calls: Sequence[Call]) -> Account:
    """Return the events of the broker's side; transactions nobody heard the end of are found by the cursors after."""
    account = Account()
    starts = {}
    for call in calls:
        if call.step == "start" and call.outcome == "ok":
            fence, cursor = _start(call, calls)
            starts[call.worker, call.number] = (fence, cursor)
            account.events += [fence, cursor]
            account.edges.append((fence, cursor))
    cursors = [cursor for _, cursor in starts.values()]
    transactions = _transactions(part, calls, {cursor.said["cursor"] for cursor in cursors}, account)
    account.events += [event for event, _ in transactions]
    account.edges += pairwise(event for event, _ in transactions)
    for cursor in cursors:
        _read_between(cursor, [event for event, _ in transactions], account)
    reigns = [
        (start, [event for event, _ in group]) for start, group in groupby(transactions, key=lambda pair: pair[1])
    ]
    if len({start for start, _ in reigns}) < len(reigns):
        account.findings.append(f"partition {part}: a publisher published although a newer one had begun to")
        return account
    for start, events in reigns:
        if start not in starts:
            account.findings.append(f"its publisher never started: {events[0]}")
            continue
        account.edges.append((starts[start][1], events[0]))
        for other, (fence, cursor) in starts.items():
            if other != start:
                account.edges.append(_outside(fence, cursor, starts[start][0], events))
    return account


def _start(call: Call, calls: Sequence[Call]) -> tuple[Event, Event]:
    """Return the two events of a publisher's start: it fences, then reads a cursor, which may be beyond belief."""
    found = call.said["cursor"] or FIRST_SEQ
    own = [each for each in calls if each.worker == call.worker and each.outcome == "ok" and each.begin < call.end]
    claim = max((each for each in own if each.step == "claim"), key=lambda each: each.begin, default=None)
    since = 0 if claim is None else claim.begin
    rows = sum(each.said["rows"] for each in own if each.step == "apply" and each.begin > since)
    known = rows if claim is None else int(claim.said["seq"]) + rows
    step = "cursor" if found <= known else "overtaken"
    return call.event("fence"), call.event(step, cursor=found)


def _transactions(
    part: int, calls: Sequence[Call], cursors: set[int], account: Account
) -> list[tuple[Event, tuple[str, int]]]:
    """Return the transactions that were committed, in the order of their rows, each with its publisher's start."""
    calls = [call for call in calls if call.step == "publish"]
    heard = [call for call in calls if call.outcome == "ok"]
    left = [call for call in calls if call.outcome == "unknown"]
    stops = cursors | {call.said["seq"] for call in heard} | {_next(call) for call in heard}
    found: list[tuple[Event, tuple[str, int]]] = []
    position = FIRST_SEQ
    while position < max(stops, default=FIRST_SEQ):
        here = [call for call in heard if call.said["seq"] == position]
        if not here:
            likely = [call for call in left if call.said["seq"] == position and _next(call) in stops]
            here = likely[-1:]  # an earlier publisher was fenced before the later one read the same cursor
        if len(here) != 1:
            times = "twice" if here else "by nobody"
            account.findings.append(f"partition {part}: rows from {position} on were published {times}")
            return found
        (call,) = here
        step = "publish" if call.outcome == "ok" else "publish unheard"
        event = call.event(step, cursor=position, rows=call.said["rows"])
        found.append((event, (call.worker, int(call.said["start"]))))
        stops.discard(position)
        position = _next(call)
    passed = {event.said["cursor"] for event, _ in found} | {position}
    for stop in sorted(cursors - passed):
        account.findings.append(f"partition {part}: a cursor stood at {stop}, in the midst of a transaction")
    for call in heard:
        if not any(call.begin == event.begin for event, _ in found):
            account.findings.append(f"partition {part}: rows from {call.said['seq']} on were published again")
    return found


def _read_between(cursor: Event, transactions: Sequence[Event], account: Account) -> None:
    """Put the reading of a cursor after the transaction that moved it there, and before the next one."""
    value = cursor.said["cursor"]
    for event in transactions:
        if event.said["cursor"] + event.said["rows"] == value:
            account.edges.append((event, cursor))
        if event.said["cursor"] == value:
            account.edges.append((cursor, event))


def _outside(fence: Event, cursor: Event, reign: Event, events: Sequence[Event]) -> tuple[Event, Event]:
    """Put a start before another publisher's reign or after it, never within: it would have ended it."""
    last = events[-1]
    could_follow = last.begin < fence.end
    could_lead = fence.begin < reign.end
    seen = cursor.said["cursor"] >= last.said["cursor"] + last.said["rows"]
    return (last, fence) if could_follow and (seen or not could_lead) else (fence, reign)


def _next(call: Call) -> int:
    return int(call.said["seq"] + call.said["rows"])
