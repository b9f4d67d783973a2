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
from domain.cel_text import Reads, Work, clauses, paths, reads, work
from domain.guards import VARIABLES, Question
from service.predicates.opened import Opened, key
from service.predicates.seen import ABSENT, held, values_seen

ENGINE = "cel"
BYTES_MAX = 4096
WORK_NS_MAX = 500_000_000

_PROGRAMS_MAX = 1024
_CAUSE_MAX = 500
_ALLOW = Verdict(outcome="allow", engine=ENGINE)
_BUDGET = "Iteration budget exceeded"
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
        """Answer each question in its place."""
        return [self._answer(question.guard.expression, question.inputs) for question in questions]

    def _answer(self, expression: str, inputs: Mapping[str, Any]) -> Verdict:
        program = self._program(expression)
        if isinstance(program, str):
            return _unavailable(expression, program)
        try:
            if program.work is not None and (needed := _nanoseconds(program.work, inputs)) > WORK_NS_MAX:
                share = -(-needed // WORK_NS_MAX)
                return _denied(expression, inputs, f"these inputs may cost {share} times the work a guard may make")
            return self._evaluated(expression, program, inputs)
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            if _BUDGET in str(error):
                return _denied(expression, inputs, "the guard's loops make too many rounds on these inputs")
            return _unavailable(expression, f"the inputs could not be read: {error}"[:_CAUSE_MAX])

    def _evaluated(self, expression: str, program: _Program, inputs: Mapping[str, Any]) -> Verdict:
        seen = dict(inputs) if program.reads is None else _part(inputs, program.reads)
        known = None
        if "now" in seen:
            seen["now"] = datetime.fromisoformat(seen["now"])
        elif (known := key(expression, seen)) is not None and self._opened.before(known):
            return _ALLOW
        result = program.expression.eval(data=seen)
        # An error is a returned value whose plain form is a non-empty text: only True itself may open.
        if result.plain_value() is not True:
            return self._denial(expression, result, seen, inputs)
        if known is not None:
            self._opened.remember(known)
        return _ALLOW

    def _denial(
        self, expression: str, result: cel.Value, seen: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> Verdict:
        """Name the clause that failed: the first that is false, else the first that is not true."""
        clause = expression
        for part in clauses(expression):
            program = self._program(part)
            if isinstance(program, str):
                continue
            answer = program.expression.eval(data=seen)
            value = answer.plain_value()
            if value is False:
                return _denied(part, inputs)
            if value is not True and clause is expression:
                clause, result = part, answer
        if result.type() != cel.Type.ERROR:
            value = result.plain_value()
            return _denied(clause, inputs, None if value is False else f"it gave {result.type().name()}, not a boolean")
        error = str(result.plain_value())
        if _NOT_PLAIN.match(error):
            return _unavailable(expression, error[:_CAUSE_MAX])
        return _denied(clause, inputs, _worded(error, clause, inputs))

    def _build(self, expression: str) -> _Program | str:
        problem = _oversized(expression)
        if problem is not None:
            return problem
        try:
            compiled = self._environment.compile(expression)
        except RuntimeError as error:
            return _explained(str(error))
        kind = compiled.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            return f"it gives {kind.name()}: a guard must be true or false"
        foreseen = work(expression)
        if isinstance(foreseen, str):
            return foreseen
        bounded = foreseen.depth == 0 and foreseen.matches_outside == 0
        return _Program(compiled, None if bounded else foreseen, reads(expression))


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
    written = orjson.dumps(inputs, option=orjson.OPT_PASSTHROUGH_DATETIME)
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


def _part(value: Mapping[str, Any], wanted: Reads) -> dict[str, Any]:
    """Return what an expression may look at; what is absent stays so."""
    found = {}
    for name, below in wanted.items():
        if name in value:
            held = value[name]
            found[name] = held if below is None or type(held) is not dict else _part(held, below)
    return found


def _denied(clause: str, inputs: Mapping[str, Any], cause: str | None = None) -> Verdict:
    values = values_seen(paths(clause), inputs)
    return Verdict(outcome="deny", clause=clause, values=values, cause=cause, engine=ENGINE)


def _unavailable(expression: str, cause: str) -> Verdict:
    return Verdict(outcome="unavailable", clause=expression, cause=cause, engine=ENGINE)


def _worded(error: str, clause: str, inputs: Mapping[str, Any]) -> str:
    """Say what an evaluation error means for the one who sent the command."""
    missing = _MISSING.match(error)
    if missing is not None:
        absent = [".".join(path) for path in paths(clause) if missing[1] in path and held(path, inputs) is ABSENT]
        return f"{absent[0] if absent else missing[1]} is absent"
    if "Applying SELECT" in error:
        return "a field is read of a value that has none"
    overload = _OVERLOAD.search(error)
    if overload is not None:
        operands = f" to ({overload[2]})" if overload[2] else ""
        return f"{overload[1]} does not apply{operands}"[:_CAUSE_MAX]
    return _FRAME.sub("", error)[:_CAUSE_MAX]
