"""What a JSONLogic rule's form tells: its clauses, the paths it reads, and whether its work can be foreseen.

The library counts steps and bytes, but not what one step compares or what a fold builds by reference (both grow beyond
any count), so a rule's loops are kept to a form in which nothing is built and little is compared.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from domain.guards import VARIABLES
from service.predicates.flaw import Flaw, Path

DEPTH_MAX = 32
LOOPS = frozenset({"all", "filter", "map", "none", "reduce", "some"})

_LOOP_DEPTH_MAX = 2
_LOOP_OPERANDS_MAX = 64
# Rounded up from measurements: comparing two texts, and making a list into one.
_COMPARE_NS_PER_BYTE = 1
_TEXT_NS_PER_BYTE = 25
_FOLDED = frozenset({"accumulator", "current"})
_BUILDS = frozenset({"cat", "merge", "missing", "missing_some"})
_TEXTS = frozenset({"cat", "in", "substr"})
_LOOKS_AT_NOTHING = LOOPS | {"!", "!!", "?:", "and", "if", "or", "var"}
_READS = frozenset({"missing", "missing_some", "var"})


class _Scope(NamedTuple):
    """Where a part of a rule stands: within how many loops, whether the innermost folds, whether it becomes text."""

    loops: int = 0
    folds: bool = False
    texts: bool = False


class Form(NamedTuple):
    """How the work that is not counted in steps grows with the inputs.

    `reads` are those outside of loops, `texts` those of them that may be made into text. `compares` are the calls in
    loops that look at whole values: a loop sees each item once, but a fold may keep one and compare it each time.
    """

    reads: int = 0
    texts: int = 0
    compares: int = 0
    folded: int = 0
    fold_depth: int = 0
    items: int = 0

    def nanoseconds(self, *, written: int, elements: int, longest: int, steps_max: int) -> int:
        """Estimate the worst case for inputs of so many bytes and elements, and a longest text in bytes."""
        reads = max(self.reads, 1)
        rounds = elements + self.items if self.fold_depth < _LOOP_DEPTH_MAX else elements * self.items
        return (
            self.texts * written * _TEXT_NS_PER_BYTE
            + self.compares * reads * written * _COMPARE_NS_PER_BYTE
            + min(steps_max, self.folded * reads * rounds) * longest * _COMPARE_NS_PER_BYTE
        )


_OUTSIDE = _Scope()


class Call(NamedTuple):
    """An operator with its operands; `listed` where they were given as a list."""

    operator: str
    operands: list[Any]
    listed: bool


def call(rule: Any) -> Call | None:  # noqa: ANN401 - any JSON
    """Read a rule as a call, None for a value."""
    if not isinstance(rule, dict) or len(rule) != 1:
        return None
    ((operator, given),) = rule.items()
    listed = isinstance(given, list)
    return Call(operator, given if listed else [given], listed)


def conjuncts(rule: Any) -> list[Any]:  # noqa: ANN401 - any JSON
    """Split the top-level conjunction of a rule into its clauses, through those nested in it."""
    whole = call(rule)
    if whole is None or whole.operator != "and" or not whole.operands:
        return [rule]
    return [clause for operand in whole.operands for clause in conjuncts(operand)]


def paths(rule: Any) -> tuple[tuple[str, ...], ...]:  # noqa: ANN401 - any JSON
    """Return the paths a rule reads that begin with a variable, in order, each once."""
    found: dict[tuple[str, ...], None] = {}
    for part, _, scope in _parts(rule):
        read = call(part)
        if read is not None and read.operator in _READS and not scope.loops:
            found.update((_steps(path), None) for path, _ in _named(read, ()) if isinstance(path, str))
    return tuple(path for path in found if path[0] in VARIABLES)


def form(rule: Any) -> Form:  # noqa: ANN401 - any JSON
    """Foresee a rule's work."""
    seen: Counter[str] = Counter()
    fold_depth = 0
    for part, _, scope in _parts(rule):
        found = call(part)
        if found is None:
            seen["items"] += 1
        elif scope.loops == 0:
            seen["reads"] += found.operator in _READS
            seen["texts"] += found.operator in _READS and scope.texts
        elif found.operator not in _LOOKS_AT_NOTHING:
            seen["folded" if scope.folds else "compares"] += 1
            fold_depth = max(fold_depth, scope.loops if scope.folds else 0)
    return Form(fold_depth=fold_depth, **seen)


def is_too_deep(rule: Any) -> bool:  # noqa: ANN401 - any JSON
    """Say whether a rule is nested deeper than a command may be; every other look at a rule relies on it."""
    level = [rule]
    for _ in range(DEPTH_MAX):
        level = [inner for part in level for inner in _inside(part)]
        if not level:
            return False
    return True


def flaws(rule: Any) -> Iterator[Flaw]:  # noqa: ANN401 - any JSON
    """Say which forms of a rule may not be asked, in its order."""
    for part, place, scope in _parts(rule):
        found = call(part)
        if found is not None:
            at = (*place, found.operator)
            yield from _read_flaws(found, at, scope)
            yield from _loop_flaws(found, at, scope)
        elif isinstance(part, list) and scope.loops and not all(map(_is_constant, part)):
            yield Flaw("no list is built inside a loop: only one of plain values may stand there", place)


def _loop_flaws(found: Call, at: Path, scope: _Scope) -> Iterator[Flaw]:
    if found.operator in LOOPS and scope.folds:
        yield Flaw("no loop inside the body of reduce: it may only compute", at)
    elif found.operator in LOOPS and scope.loops >= _LOOP_DEPTH_MAX:
        yield Flaw(f"loops ({', '.join(sorted(LOOPS))}) may be nested {_LOOP_DEPTH_MAX} deep, not more", at)
    elif scope.loops and found.operator in _BUILDS:
        yield Flaw(f"no {found.operator} inside a loop: what is built there has no bound", at)
    if scope.loops and len(found.operands) > _LOOP_OPERANDS_MAX:
        yield Flaw(f"inside a loop an operator takes at most {_LOOP_OPERANDS_MAX} operands", at)


def _read_flaws(found: Call, at: Path, scope: _Scope) -> Iterator[Flaw]:
    if found.operator == "val":
        yield Flaw("val is no operator of JSONLogic's own: use var", at)
    if found.operator not in _READS or (found.operator in _BUILDS and scope.loops):
        return
    for path, place in _named(found, at):
        if not isinstance(path, str | int) or isinstance(path, bool):
            yield Flaw(f"{found.operator} needs its path as a text, not one that is made on the way", place)
        elif scope.folds and _steps(path)[0] not in _FOLDED:
            yield Flaw("the body of reduce sees current and accumulator", place)
        elif scope.loops and _steps(path)[0] in VARIABLES:
            yield Flaw(f"inside a loop var sees the item alone, not {path}", place)
        elif not scope.loops and _steps(path)[0] not in VARIABLES:
            said = f"there is no {path}" if path != "" else "all inputs at once are not read"
            yield Flaw(f"{said}; a guard sees {', '.join(VARIABLES)}", place)


def _named(found: Call, at: Path) -> Iterator[tuple[Any, Path]]:
    """Yield the paths that a read names, and their places."""
    if found.operator == "var":
        given = found.operands[0] if found.operands else ""
        yield given, (*at, 0) if found.listed and found.operands else at
        return
    if found.operator == "missing_some":
        given = found.operands[1] if len(found.operands) > 1 else []
        names, at = (given if isinstance(given, list) else [given]), (*at, 1)
    elif found.listed and len(found.operands) == 1 and isinstance(found.operands[0], list):
        names, at = found.operands[0], (*at, 0)
    else:
        names = found.operands
    for index, name in enumerate(names):
        yield name, (*at, index) if found.listed else at


def _parts(rule: Any, place: Path = (), scope: _Scope = _OUTSIDE) -> Iterator[tuple[Any, Path, _Scope]]:  # noqa: ANN401 - any JSON
    """Yield each part of a rule with its place and scope, outer ones first; the operands' list is no part."""
    yield rule, place, scope
    found = call(rule)
    if found is None:
        for key, item in rule.items() if isinstance(rule, dict) else enumerate(rule) if isinstance(rule, list) else ():
            yield from _parts(item, (*place, key), scope)
        return
    for index, operand in enumerate(found.operands):
        at = (*place, found.operator, index) if found.listed else (*place, found.operator)
        body = found.operator in LOOPS and index == 1
        texts = scope.texts or found.operator in _TEXTS
        inner = _Scope(scope.loops + body, found.operator == "reduce" if body else scope.folds, texts)
        yield from _parts(operand, at, inner)


def _is_constant(part: Any) -> bool:  # noqa: ANN401 - any JSON
    return not isinstance(part, dict) and (not isinstance(part, list) or all(map(_is_constant, part)))


def _inside(part: Any) -> list[Any]:  # noqa: ANN401 - any JSON
    return list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []


def _steps(path: str | int) -> tuple[str, ...]:
    return tuple(str(path).split("."))
