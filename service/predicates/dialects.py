"""How questions are written for a remote engine and its answers read: OPA's data API, or plain JSON.

Read strictly, for whatever is not a proper verdict must not open anything. What an engine adds for people (reason,
values) is cut to what a reply and a store take.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from pydantic import ValidationError

from contracts.policies import PolicyVerdict
from contracts.predicates import Verdict
from handlers.written import storable

ENGINE = "remote"
VALUES_MAX = 20
VALUE_BYTES_MAX = 1024
VALUE_DEPTH_MAX = 8
TEXT_MAX = 500

# What OPA may say beside a result: an answer that has neither is not OPA's.
_OPA_BESIDES = frozenset({"decision_id", "metrics", "provenance", "explanation", "warning"})


class Put(NamedTuple):
    """A question as it is sent: the policy's name, and the input as JSON, written once."""

    policy: str
    input: bytes


class Request(NamedTuple):
    """What is posted where."""

    url: str
    body: bytes


class Unreadable(Exception):  # noqa: N818 - it says what the answer is
    """Say why an answer is none."""


class Dialect(Protocol):
    """One engine's language; `batch_max` bounds the questions of a request."""

    batch_max: int

    def request(self, questions: Sequence[Put]) -> Request:
        """Write questions, `batch_max` at most."""
        ...

    def verdicts(self, questions: Sequence[Put], body: bytes) -> list[Verdict]:
        """Read as many verdicts as questions; raises Unreadable."""
        ...


class PlainJson:
    """`contracts.policies` as it is, posted to one address."""

    def __init__(self, url: str, batch_max: int) -> None:
        self.batch_max = batch_max
        self._url = url

    def request(self, questions: Sequence[Put]) -> Request:
        """Write a `PolicyRequest`."""
        return Request(self._url, b'{"questions":[%s]}' % _listed(questions))

    def verdicts(self, questions: Sequence[Put], body: bytes) -> list[Verdict]:
        """Read a `PolicyAnswer`."""
        return _each(questions, _object(body).get("verdicts"), None)


class Opa:
    """OPA's data API: a rule for each policy, or one rule that takes many questions."""

    def __init__(self, url: str, batch_max: int, batch_rule: str | None) -> None:
        self.batch_max = 1 if batch_rule is None else batch_max
        self._url = f"{url.rstrip('/')}/v1/data/"
        self._batch_rule = batch_rule

    def request(self, questions: Sequence[Put]) -> Request:
        """Write the rule's `input`."""
        if self._batch_rule is None:
            (question,) = questions
            return Request(self._at(question.policy), b'{"input":%s}' % question.input)
        return Request(self._at(self._batch_rule), b'{"input":{"questions":[%s]}}' % _listed(questions))

    def verdicts(self, questions: Sequence[Put], body: bytes) -> list[Verdict]:
        """Read the rule's `result`; where that is undefined it denies, but a rule for many questions must have one."""
        answer = _object(body)
        version = _revision(answer)
        if self._batch_rule is not None:
            return _each(questions, answer.get("result"), version)
        (question,) = questions
        if "result" not in answer:
            if answer.keys() - _OPA_BESIDES:
                raise Unreadable("its answer has no result")
            return [denied(question.policy, f"the policy {question.policy} has no result for this", version)]
        found = answer["result"]
        if isinstance(found, dict) and "allow" not in found:
            return [denied(question.policy, f"the policy {question.policy} says nothing of allow", version)]
        return _each(questions, [found], version)

    def _at(self, policy: str) -> str:
        return f"{self._url}{policy}?provenance=true"


def unavailable(policy: str, cause: str) -> Verdict:
    """Return that nobody could tell, and why."""
    return Verdict(outcome="unavailable", clause=policy, cause=cause, engine=ENGINE)


def denied(policy: str, cause: str | None, version: str | None, values: dict[str, Any] | None = None) -> Verdict:
    """Return a denial; its clause is the policy."""
    return Verdict(
        outcome="deny", clause=policy, cause=cause, values=values or None, policy_version=version, engine=ENGINE
    )


def _listed(questions: Sequence[Put]) -> bytes:
    return b",".join(b'{"policy":%s,"input":%s}' % (orjson.dumps(each.policy), each.input) for each in questions)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unreadable("its answer is not JSON") from None
    if not isinstance(found, dict):
        raise Unreadable("its answer is no JSON object")
    return found


def _each(questions: Sequence[Put], found: object, version: str | None) -> list[Verdict]:
    if not isinstance(found, list):
        raise Unreadable("its answer has no list of verdicts")
    if len(found) != len(questions):
        raise Unreadable(f"it answered {len(questions)} questions with {len(found)} verdicts")
    verdicts = [_verdict(question.policy, each, version) for question, each in zip(questions, found, strict=True)]
    if all(verdict.outcome == "unavailable" for verdict in verdicts):
        raise Unreadable(verdicts[0].cause or "")
    return verdicts


def _verdict(policy: str, found: object, version: str | None) -> Verdict:
    """Read one verdict; what is none is that question's trouble alone."""
    if isinstance(found, bool):
        told = PolicyVerdict(allow=found)
    elif isinstance(found, dict):
        try:
            told = PolicyVerdict.model_validate(found)
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_url=False))
            return unavailable(policy, f"its verdict has a bad {wrong}"[:TEXT_MAX])
    else:
        return unavailable(policy, f"its verdict is of type {type(found).__name__}")
    version = _text(told.policy_version) or version
    if told.allow:
        return Verdict(outcome="allow", engine=ENGINE, policy_version=version)
    return denied(policy, _text(told.reason), version, _shown(told.values or {}))


def _revision(answer: Mapping[str, Any]) -> str | None:
    """Return what OPA says it judged by: its bundles' revisions, else under which id it logged the decision."""
    provenance = answer.get("provenance")
    bundles = provenance.get("bundles") if isinstance(provenance, dict) else None
    told = (
        [f"{name} {bundle.get('revision')}" for name, bundle in sorted(bundles.items()) if isinstance(bundle, dict)]
        if isinstance(bundles, dict)
        else []
    )
    if told:
        return _text(", ".join(told))
    decision = answer.get("decision_id")
    return _text(f"decision {decision}") if isinstance(decision, str) and decision else None


def _text(text: str | None) -> str | None:
    return storable(text[:TEXT_MAX]) if text else None


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as a reply can carry them."""
    return {storable(name[:200]): _value(value) for name, value in list(values.items())[:VALUES_MAX]}


def _value(value: object) -> object:
    if not _plain(value, VALUE_DEPTH_MAX):  # before it is written: what orjson reads may be too deep for it to write
        return "(not shown)"
    written = orjson.dumps(value)
    return value if len(written) <= VALUE_BYTES_MAX else f"({len(written)} bytes, not shown)"


def _plain(value: object, depth: int) -> bool:
    """Say whether a value is one that a store and a topic take."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, list | dict):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_plain(each, depth - 1) for each in inner)
    return True
