"""JSONLogic guards, judged in process: compiled once, bounded in bytes, depth, form and steps, closed on every failure.

What decides between the two ways of not opening is what decides for CEL: whatever follows from the inputs is `deny` (a
clause that is false, values that do not compare, a result that is not `true` itself, too much work); `unavailable` is
what an operator can mend (a rule that this build cannot ask, inputs that are not plain JSON). A field that is absent
reads as null, as the language has it.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from datalogic_py import DataHandle, DataLogicError, Engine, Rule

from contracts.predicates import Verdict
from domain.canonical import canonical
from domain.guards import Question, digest
from service.predicates.flaw import Flaw, Path
from service.predicates.jsonlogic_rule import DEPTH_MAX, Form, conjuncts, flaws, form, is_too_deep, paths
from service.predicates.seen import values_seen

ENGINE = "jsonlogic"
BYTES_MAX = 4096
STEPS_MAX = 100_000
WORK_NS_MAX = 500_000_000
# The operators of jsonlogic.com alone; what has no answer (1 / 0) is an error and not a large number.
CONFIG = {"ops_budget": STEPS_MAX, "division_by_zero": "throw_error"}

_RULES_MAX = 1024
_CAUSE_MAX = 500
_OURS = frozenset({"ConfigurationError", "InvalidArgument", "InvalidOperator", "ParseError"})
_TOO_MUCH = "BudgetExceeded"
_TYPE = re.compile(r"\(got (\w+)\)")


class _Compiled(NamedTuple):
    """A rule ready to be asked: as JSON, compiled, and the work to foresee before it runs if any."""

    tree: Any
    rule: Rule
    form: Form | None


class JsonLogicEngine:
    """Answers JSONLogic guards; holds nothing but compiled rules, so one serves the whole process."""

    def __init__(self) -> None:
        self._engine = Engine(families=[], config=CONFIG)
        self._compiled = lru_cache(_RULES_MAX)(self._build)

    def compile(self, expression: str) -> Flaw | None:
        """Return what is wrong with a rule, given as JSON text, or None."""
        compiled = self._compiled(expression)
        return compiled if isinstance(compiled, Flaw) else None

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer each question in its place, with the digest of all inputs: a rule may compute what it reads."""
        return [self._answer(question.guard.expression, question.inputs.whole()) for question in questions]

    def _answer(self, expression: str, inputs: Mapping[str, Any]) -> Verdict:
        compiled = self._compiled(expression)
        if isinstance(compiled, Flaw):
            return _unavailable(expression, compiled.message)
        try:
            if compiled.form is not None and (needed := _nanoseconds(compiled.form, inputs)) > WORK_NS_MAX:
                share = -(-needed // WORK_NS_MAX)
                cause = f"these inputs may cost {share} times the work a guard may make"
                return _denied(expression, compiled.tree, inputs, cause)
            data = DataHandle(inputs)
        except (DataLogicError, TypeError, ValueError) as error:
            return _unavailable(expression, f"the inputs could not be read: {error}"[:_CAUSE_MAX])
        try:
            # Asked for a boolean: what the language takes for true (1, "no", [0]) is an error here, and no `true`.
            if self._engine.session().evaluate_bool(compiled.rule, data):
                return Verdict("allow", ENGINE, inputs_digest=digest(inputs))
        except DataLogicError as error:
            if error.error_type in _OURS:
                return _unavailable(expression, str(error)[:_CAUSE_MAX])
            if error.error_type == _TOO_MUCH:
                return _denied(expression, compiled.tree, inputs, _worded(error))
            return self._denial(compiled, inputs, data, _worded(error))
        return self._denial(compiled, inputs, data, None)

    def _denial(self, compiled: _Compiled, inputs: Mapping[str, Any], data: DataHandle, cause: str | None) -> Verdict:
        """Name the clause that failed: the first that does not hold, where the language stops too, else the last."""
        clauses = conjuncts(compiled.tree)
        for clause in clauses:
            found = self._of(clause, data)
            if found is not True:
                return _denied(_text(clause), clause, inputs, found or None)
        return _denied(_text(clauses[-1]), clauses[-1], inputs, cause)

    def _of(self, clause: Any, data: DataHandle) -> bool | str:  # noqa: ANN401 - any JSON
        """Say whether a clause holds, or why nobody can tell; what is merely taken for true holds."""
        compiled = self._compiled(_text(clause))
        if isinstance(compiled, Flaw):  # a value that never is `true` itself
            return self._engine.truthy(_text(clause)) or "it never holds"
        session = self._engine.session()
        try:
            return session.evaluate_bool(compiled.rule, data)
        except DataLogicError as error:
            if error.error_type != "TypeMismatch":
                return _worded(error)
            return session.evaluate_truthy(compiled.rule, data) or _worded(error)

    def _build(self, expression: str) -> _Compiled | Flaw:
        tree = _read(expression)
        if isinstance(tree, Flaw):
            return tree
        if not isinstance(tree.value, bool | dict):
            return Flaw("it gives the same whatever happens, and never true: write a rule, not the text of one")
        flaw = next(flaws(tree.value), None)
        if flaw is not None:
            return flaw
        for found in self._engine.check(expression):
            if found["severity"] == "error":
                return Flaw(found["message"], _place(tree.value, found["pointer"]))
        try:
            rule = self._engine.compile(expression)
        except DataLogicError as error:
            return Flaw(str(error)[:_CAUSE_MAX])
        foreseen = form(tree.value)
        grows = foreseen.texts or foreseen.compares or foreseen.folded
        return _Compiled(tree.value, rule, foreseen if grows else None)


class _Read(NamedTuple):
    value: Any


def _read(expression: str) -> _Read | Flaw:
    """Read a rule's text, or say why it may not even be looked at."""
    try:
        size = len(expression.encode())
    except UnicodeEncodeError:
        return Flaw("it holds half of a surrogate pair: remove it")
    if size > BYTES_MAX:
        return Flaw(f"it has {size} bytes: at most {BYTES_MAX} are allowed")
    try:
        tree = orjson.loads(expression)
    except ValueError as error:
        return Flaw(f"it is not JSON: {error}")
    if is_too_deep(tree):
        return Flaw(f"it is nested deeper than {DEPTH_MAX}: flatten it")
    return _Read(tree)


def _text(rule: Any) -> str:  # noqa: ANN401 - any JSON
    return canonical(rule).decode()


def _place(rule: Any, pointer: str) -> Path:  # noqa: ANN401 - any JSON
    """Turn a JSON Pointer into a path, as far as it is in the rule."""
    path: list[str | int] = []
    for step in (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]):
        if isinstance(rule, list) and step.isdecimal() and int(step) < len(rule):
            rule = rule[int(step)]
            path.append(int(step))
        elif isinstance(rule, dict) and step in rule:
            rule = rule[step]
            path.append(step)
        else:
            break
    return tuple(path)


def _nanoseconds(foreseen: Form, inputs: Mapping[str, Any]) -> int:
    """Bound what is not counted as steps on these inputs."""
    written = orjson.dumps(inputs)
    longest = max(map(len, written.split(b'"')))
    elements = written.count(b",") + 1
    return foreseen.nanoseconds(written=len(written), elements=elements, longest=longest, steps_max=STEPS_MAX)


def _denied(clause: str, tree: Any, inputs: Mapping[str, Any], cause: str | None) -> Verdict:  # noqa: ANN401 - any JSON
    values = values_seen(paths(tree), inputs)
    return Verdict("deny", ENGINE, clause, values, cause, inputs_digest=digest(inputs))


def _unavailable(expression: str, cause: str) -> Verdict:
    return Verdict(outcome="unavailable", clause=expression, cause=cause, engine=ENGINE)


def _worded(error: DataLogicError) -> str:
    """Say what an evaluation error means for the one who sent the command."""
    if error.error_type == _TOO_MUCH:
        return f"the rule takes more than {STEPS_MAX} steps on these inputs"
    if error.error_type == "TypeMismatch":
        found = _TYPE.search(str(error))
        return f"it gave {found[1] if found else 'something else'}, not a boolean"
    if error.operator is not None:
        return f"{error.operator} does not apply to these values"
    return str(error)[:_CAUSE_MAX]
