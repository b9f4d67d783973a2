"""What one partition's row in the store went through: claims by epoch, turns within them, and who was fenced."""

from collections.abc import Sequence
from itertools import pairwise

from tests.spec.steps import Account, Call, Event


def stored(part: int, calls: Sequence[Call]) -> Account:
    """Return the events of the store's side; steps nobody heard the end of are found where others need them."""
    account = Account()
    claims = _claims(part, [call for call in calls if call.step == "claim"], account)
    applies = _applies([call for call in calls if call.step == "apply"], claims)
    chain = sorted([*claims, *applies], key=_place)
    account.events += chain
    account.edges += pairwise(chain)
    for call in calls:
        if call.step in {"apply", "lock"} and call.outcome == "fenced":
            _fenced(call, chain, account)
    return account


def _claims(part: int, calls: Sequence[Call], account: Account) -> list[Event]:
    """Return the claims that took place: each epoch is one, also where nobody heard of it."""
    heard = [call.event("claim", **call.said) for call in calls if call.outcome == "ok"]
    unheard = [call for call in calls if call.outcome == "unknown"]
    by_epoch = {event.said["epoch"]: event for event in heard}
    if len(by_epoch) < len(heard):
        account.findings.append(f"partition {part}: an epoch was given twice")
    claims = []
    for epoch in range(1, max(by_epoch, default=0) + 1):
        if epoch in by_epoch:
            claims.append(by_epoch[epoch])
        elif unheard:
            claims.append(unheard.pop(0).event("claim unheard", epoch=epoch))
        else:
            account.findings.append(f"partition {part}: nobody claimed epoch {epoch}")
    return claims


def _applies(calls: Sequence[Call], claims: Sequence[Event]) -> list[Event]:
    """Return the turns that were written: an unheard one was if the next claim that was heard found its turn."""
    applies = []
    for call in calls:
        said = {name: call.said[name] for name in ("epoch", "turn", "offset", "seq", "rows")}
        said["records"] = call.said["next_offset"] - call.said["offset"]
        if call.outcome == "ok":
            applies.append(call.event("apply", **said))
        elif call.outcome == "unknown":
            later = [claim for claim in claims if claim.said["epoch"] > said["epoch"] and "turn" in claim.said]
            if later and later[0].said["turn"] > said["turn"]:
                applies.append(call.event("apply unheard", **said))
    return applies


def _fenced(call: Call, chain: Sequence[Event], account: Account) -> None:
    """Add a fenced apply after the event that moved the row away from what its owner held."""
    epoch, turn = call.said["epoch"], call.said["turn"]
    event = call.event("fenced", epoch=epoch, turn=turn, offset=call.said["offset"])
    moved = next((each for each in chain if _place(each) > (epoch, turn)), None)
    if moved is None:
        account.findings.append(f"nothing explains: {event}")
    else:
        account.events.append(event)
        account.edges.append((moved, event))


def _place(event: Event) -> tuple[int, int]:
    """Return where the store was after this event: its epoch, and the turns of it that were written."""
    return event.said["epoch"], 0 if event.step.startswith("claim") else event.said["turn"] + 1
