"""CEL guards, judged in process: compiled once, bounded in length, recursion and work, closed on every failure.

What decides between the two ways of not opening: whatever follows from the inputs is `deny`, for the same command on
the same workflow would meet it again (a clause that is false, a field that is absent, values that do not compare,
a result that is no boolean, too much work). `unavailable` is what an operator can mend so that a repeat may pass:
an expression that this build cannot compile, inputs that are not plain JSON. `now` is asked as RFC 3339 text and seen
by the expression as a CEL timestamp; every other instant is text: `timestamp(workflow.created_at)`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships stubs without a marker

from contracts.predicates import Verdict
from domain.cel_text import Work, clauses, paths, reads, work
from domain.guards import VARIABLES, Inputs, Question, Reads, digest
from service.predicates.opened import Opened, key
from service.predicates.seen import ABSENT, held, values_seen

ENGINE = "cel"
BYTES_MAX = 4096
WORK_NS_MAX = 500_000_000

_PROGRAMS_MAX = 1024
_CAUSE_MAX = 500
_BUDGET = "Iteration budget exceeded"
_DUPLICATE = "duplicate key in map"
# Errors that say the inputs were not what `Question` promises: ours to mend.
_NOT_PLAIN = re.compile(r"INVALID_ARGUMENT: (Integer value|Non-CEL value type)|UNKNOWN: No value with name")
_MISSING = re.compile(r'NOT_FOUND: Key not found in map : "(.*)"', re.DOTALL)
_OVERLOAD = re.compile(r"No matching overloads found : [_<]?(.+?)[_>]?(?:\((.*)\))?\Z")
_FRAME = re.compile(r"\A[A-Z_]+: (?:ERROR: <input>:)?|\s*\[[A-Z_]+\]\Z")


class _Program(NamedTuple):
    """A compiled expression, the work to foresee before it runs if any, and what it reads, None for everything."""

    expression: cel.Expression
    work: Work | None
    reads: Reads | None


class CelEngine:
    """Answers CEL guards; holds compiled expressions and what they opened on, so one serves the whole process."""

    def __init__(self) -> None:
        dynamic = dict.fromkeys(VARIABLES, cel.Type.DYN)
        self._environment = cel.NewEnv(variables=dynamic | {"now": cel.Type.TIMESTAMP})
        self._program = lru_cache(_PROGRAMS_MAX)(self._build)
        self._opened = Opened()

    def compile(self, expression: str) -> str | None:
        """Return what is wrong with an expression, or None; positions in it are line:column."""
        program = self._program(expression)
        return program if isinstance(program, str) else None

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer each question in its place, each verdict with the digest of what its expression reads."""
        return [self._answer(question.guard.expression, question.inputs) for question in questions]

    def _answer(self, expression: str, inputs: Inputs) -> Verdict:
        program = self._program(expression)
        if isinstance(program, str):
            return _unavailable(expression, program)
        seen = inputs.whole() if program.reads is None else inputs.part(program.reads)
        known = None if "now" in seen else key(expression, seen)
        if known is not None and (before := self._opened.before(known)) is not None:
            return before
        try:
            verdict = self._evaluated(expression, program, seen)
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            if _BUDGET in str(error):
                return _denied(expression, seen, "the guard's loops make too many rounds on these inputs")
            if _DUPLICATE in str(error):
                return _denied(expression, seen, "a map is built with one key twice")
            return _unavailable(expression, f"the inputs could not be read: {error}"[:_CAUSE_MAX])
        if known is not None and verdict.outcome == "allow":
            self._opened.remember(known, verdict)
        return verdict

    def _evaluated(self, expression: str, program: _Program, seen: Mapping[str, Any]) -> Verdict:
        if program.work is not None and (needed := _nanoseconds(program.work, seen)) > WORK_NS_MAX:
            share = -(-needed // WORK_NS_MAX)
            return _denied(expression, seen, f"these inputs may cost {share} times the work a guard may make")
        data = dict(seen)
        if "now" in data:
            data["now"] = datetime.fromisoformat(data["now"])
        result = program.expression.eval(data=data)
        if _truth(result) is not True:
            return self._denial(expression, result, data, seen)
        return Verdict("allow", ENGINE, inputs_digest=digest(seen))

    def _denial(self, expression: str, result: cel.Value, data: Mapping[str, Any], seen: Mapping[str, Any]) -> Verdict:
        """Name the clause that failed: the first that is false, else the first that is not true."""
        clause = expression
        for part in clauses(expression):
            program = self._program(part)
            if isinstance(program, str):
                continue
            answer = program.expression.eval(data=data)
            value = _truth(answer)
            if value is False:
                return _denied(part, seen)
            if value is None and clause is expression:
                clause, result = part, answer
        if result.type() == cel.Type.BOOL:
            return _denied(clause, seen)
        if result.type() != cel.Type.ERROR:
            return _denied(clause, seen, f"it gave {result.type().name()}, not a boolean")
        error = str(result.plain_value())
        if _NOT_PLAIN.match(error):
            return _unavailable(expression, error[:_CAUSE_MAX])
        return _denied(clause, seen, _worded(error, clause, seen))

    def _build(self, expression: str) -> _Program | str:
        problem = _oversized(expression)
        if problem is not None:
            return problem
        try:
            compiled = self._environment.compile(expression)
            kind = compiled.return_type()
        except RuntimeError as error:
            return _explained(str(error))
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            return f"it gives {kind.name()}: a guard must be true or false"
        foreseen = work(expression)
        if isinstance(foreseen, str):
            return foreseen
        return _Program(compiled, foreseen if foreseen.grows else None, reads(expression))


def _truth(answer: cel.Value) -> bool | None:
    """Say whether an answer is true or false, None where it is neither.

    What is neither is never made Python's: with each null in it the library (0.1.3) gives away a reference to None that
    it does not own, and after some thousands of them Python 3.11 ends the process.
    """
    return bool(answer.plain_value()) if answer.type() == cel.Type.BOOL else None


def _oversized(expression: str) -> str | None:
    try:
        size = len(expression.encode())
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair: remove it"
    if "\0" in expression:
        return "it holds a NUL: remove it"
    return f"it has {size} bytes: at most {BYTES_MAX} are allowed" if size > BYTES_MAX else None


def _explained(error: str) -> str:
    """Return the library's first complaint without its frame."""
    text = _FRAME.sub("", error.partition("\n")[0])[:_CAUSE_MAX]
    hint = f"; a guard sees {', '.join(VARIABLES)}" if "undeclared reference" in text else ""
    return text.replace(" (in container '')", "") + hint


def _nanoseconds(foreseen: Work, inputs: Mapping[str, Any]) -> int:
    """Bound the work on these inputs: roughly from their JSON, exactly where that alone would refuse."""
    written = orjson.dumps(inputs)
    elements = written.count(b",") + 1
    longest = max(map(len, written.split(b'"')))
    rough = foreseen.nanoseconds(widest=elements, elements=elements, longest=longest)
    if rough <= WORK_NS_MAX:
        return rough
    return foreseen.nanoseconds(widest=_widest(inputs), elements=elements, longest=longest)


def _widest(inputs: Mapping[str, Any]) -> int:
    widest, waiting = 1, list(inputs.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            widest = max(widest, len(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return widest


def _denied(clause: str, seen: Mapping[str, Any], cause: str | None = None) -> Verdict:
    values = values_seen(paths(clause), seen)
    return Verdict("deny", ENGINE, clause, values, cause, inputs_digest=digest(seen))


def _unavailable(expression: str, cause: str) -> Verdict:
    return Verdict(outcome="unavailable", clause=expression, cause=cause, engine=ENGINE)


def _worded(error: str, clause: str, seen: Mapping[str, Any]) -> str:
    """Say what an evaluation error means for the one who sent the command."""
    missing = _MISSING.match(error)
    if missing is not None:
        absent = [".".join(path) for path in paths(clause) if missing[1] in path and held(path, seen) is ABSENT]
        return f"{absent[0] if absent else missing[1]} is absent"
    if "Applying SELECT" in error:
        return "a field is read of a value that has none"
    overload = _OVERLOAD.search(error)
    if overload is not None:
        operands = f" to ({overload[2]})" if overload[2] else ""
        return f"{overload[1]} does not apply{operands}"[:_CAUSE_MAX]
    return _FRAME.sub("", error)[:_CAUSE_MAX]
