"""Conditions written as Python expressions, translated to CEL when a definition is compiled; nothing is evaluated.

The translation opens only where Python, on the same JSON, would come to `True` without an exception, and shuts out what
the two languages see differently: see docs/definitions.md. Where a part's error must not be hidden by its neighbour, as
`||` of CEL would, it is written with `?:`, which asks in Python's order.
"""

import ast
from dataclasses import dataclass
from functools import lru_cache

from domain.cel_pieces import (
    MEMBER,
    PLAIN,
    PRODUCT,
    RELATION,
    RESERVED,
    SUM,
    TYPES,
    UNARY,
    Cel,
    Kind,
    UnsupportedError,
    all_of,
    any_of,
    choice,
    field_step,
    instant,
    literal,
)
from domain.condition_text import BYTES_MAX, Problem, problem_of
from domain.guards import VARIABLES

_CONTEXT = "command.context"
_RELATIONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="
}  # fmt: skip
_SUMS: dict[type[ast.operator], tuple[str, int]] = {
    ast.Add: ("+", SUM), ast.Sub: ("-", SUM), ast.Mult: ("*", PRODUCT)
}  # fmt: skip
_INSTEAD: dict[type[ast.AST], str] = {
    ast.Dict: "a mapping: compare its fields one by one",
    ast.DictComp: "a mapping: compare its fields one by one",
    ast.FloorDiv: "//: multiply the other side instead of dividing",
    ast.GeneratorExp: "a loop outside any() and all(): write any(... for x in ...)",
    ast.JoinedStr: "a text with values in it: compare the values themselves",
    ast.Lambda: "a function: write the condition itself",
    ast.ListComp: "a loop outside any() and all(): write any(... for x in ...)",
    ast.NamedExpr: "an assignment: write the value out where it is used",
    ast.Pow: "**: write the multiplication out",
    ast.Set: "a set: write a list, [1, 2]",
    ast.SetComp: "a set: write any(... for x in ...)",
    ast.Slice: "a part of a list or text: use startswith, endswith or a single place",
    ast.Starred: "a star: write the values out",
    ast.Tuple: "a tuple but after in: write a list, [1, 2]",
}


_CALLED: dict[Kind, str] = {"text": "a text", "null": "None", "list": "a list", "instant": "now"}
# Known to be mappings: nobody looks for a part of a text in them.
_MAPPINGS = frozenset({"workflow", "command", "actor", _CONTEXT, "workflow.metadata", "workflow.input"})


@lru_cache(1024)
def translate(source: str) -> str | Problem:
    """Translate a Python condition to CEL, or say why it cannot be and what to write instead.

    Guard variables keep their names; any other bare name is a field of `command.context`.
    """
    problem = problem_of(source)
    if problem is not None:
        return problem
    try:
        # In brackets, so that it may go on in the next line; that they pair up is known by now.
        parsed = ast.parse(f"({source}\n)", mode="eval")
    except SyntaxError as error:
        return Problem(f"this is not Python: {error.msg}", *_within(source, error.lineno or 1, error.offset or 1))
    except (RecursionError, MemoryError, ValueError):
        return Problem("it cannot be parsed: split the condition")
    try:
        return _Translator(frozenset()).condition(parsed.body, exact=False).text
    except UnsupportedError as found:
        return Problem(found.message, *_place(source, found.node))


def _within(source: str, line: int, column: int) -> tuple[int, int]:
    """Return a place as the parser counts it, of the text without the brackets around it."""
    lines = source.split("\n")
    if line > len(lines):
        return len(lines), len(lines[-1]) + 1
    return line, max(1, column - (line == 1))


def _place(source: str, node: ast.AST) -> tuple[int, int]:
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    written = f"({source}".split("\n")[line - 1].encode()[:column].decode(errors="ignore")
    return line, max(1, len(written) + (line > 1))


@dataclass(frozen=True, slots=True)
class _Translator:
    """Translates within the loops whose variables are `bound`.

    `exact` asks for Python's value or an error in each case; without it only where the result is `True` matters.
    """

    bound: frozenset[str]

    def condition(self, node: ast.expr, *, exact: bool) -> Cel:
        """Translate what has to be true or false."""
        piece = self.value(node, exact=exact)
        if piece.kind not in {"bool", "any"}:
            what = _CALLED.get(piece.kind, "a number")
            raise UnsupportedError(node, f"{what} is neither true nor false: compare it, as in x != 0 or x is not None")
        return piece

    def value(self, node: ast.expr, *, exact: bool = True) -> Cel:
        """Translate any expression."""
        match node:
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()) | ast.IfExp():
                piece = self._logic(node, exact=exact)
            case ast.Compare():
                piece = self._chain(node, exact=exact)
            case ast.BinOp() | ast.UnaryOp():
                piece = self._arithmetic(node, decimal=_is_decimal(node))
            case ast.Constant():
                piece = literal(node, node.value)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                piece = self._path(node)
            case ast.List():
                piece = self._list(node.elts)
            case ast.Call():
                piece = self._call(node, exact=exact)
            case _:
                raise UnsupportedError(node, _unsupported(node))
        if len(piece.text) > BYTES_MAX:
            raise UnsupportedError(node, f"its CEL would have more than {BYTES_MAX} bytes: split the condition")
        return piece

    def _logic(self, node: ast.BoolOp | ast.UnaryOp | ast.IfExp, *, exact: bool) -> Cel:
        match node:
            case ast.BoolOp(op=ast.And()):
                return all_of([self.condition(each, exact=exact) for each in node.values], exact=exact)
            case ast.BoolOp():
                *earlier, last = node.values
                parts = [self.condition(each, exact=True) for each in earlier]
                return any_of([*parts, self.condition(last, exact=exact)])
            case ast.UnaryOp():
                return Cel(f"!{self.condition(node.operand, exact=True).at(MEMBER)}", UNARY, "bool")
            case ast.IfExp():
                test = self.condition(node.test, exact=True)
                return choice(test, self.value(node.body, exact=exact), self.value(node.orelse, exact=exact))

    def _chain(self, node: ast.Compare, *, exact: bool) -> Cel:
        operands = [node.left, *node.comparators]
        parts = [
            self._relation(op, left, right)
            for op, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True)
        ]
        return all_of(parts, exact=exact)

    def _relation(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Cel:
        if isinstance(op, ast.In | ast.NotIn):
            within = self._within(left, right)
            return within if isinstance(op, ast.In) else Cel(f"!{within.at(MEMBER)}", UNARY, "bool")
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))):
                raise UnsupportedError(right, "is compares with None, True or False alone: write == for other values")
            op = ast.Eq() if isinstance(op, ast.Is) else ast.NotEq()
        first, second = self.value(left), self.value(right)
        if first.kind == "instant" != second.kind:
            second = instant(right, second)
        elif second.kind == "instant" != first.kind:
            first = instant(left, first)
        elif "any" not in {first.kind, second.kind} and first.kind != second.kind:
            first = Cel(f"dyn({first.text})", MEMBER)  # CEL compares kinds that differ only if it does not know
        return Cel(f"{first.at(SUM)} {_RELATIONS[type(op)]} {second.at(SUM)}", RELATION, "bool")

    def _within(self, left: ast.expr, right: ast.expr) -> Cel:
        """Translate `in`: an element of a list, a key of a mapping, or a part of a text."""
        item = self.value(left)
        where = self._list(right.elts) if isinstance(right, ast.Tuple) else self.value(right)
        if item.kind == "instant":
            raise UnsupportedError(left, "now is in no list: compare it with <, <=, > or >=")
        contained = Cel(f"{where.at(MEMBER)}.contains({item.text})", MEMBER, "bool")
        listed = Cel(f"{item.at(SUM)} in {where.at(SUM)}", RELATION, "bool")
        if where.kind == "text":
            return contained
        if where.kind == "list" or where.text in _MAPPINGS:
            return listed
        if not where.path:
            raise UnsupportedError(right, "in looks into a field, a list or a text: name the field")
        if item.kind not in {"text", "any"}:
            return listed
        return choice(Cel(f"type({where.text}) == string", RELATION, "bool"), contained, listed)

    def _arithmetic(self, node: ast.expr, *, decimal: bool) -> Cel:
        """Translate a sum; where a decimal takes part every number in it becomes a double."""
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if not isinstance(
                number, bool
            ):
                piece = literal(node, float(-number) if decimal else -number)
            case ast.UnaryOp(op=ast.USub()):
                operand = self._arithmetic(node.operand, decimal=decimal)
                piece = Cel(f"-{operand.at(MEMBER)}", UNARY, operand.kind)
            case ast.BinOp(op=ast.Div()):
                divisor = _divisor(node.right)
                left = self._arithmetic(node.left, decimal=True)
                piece = Cel(f"{left.at(PRODUCT)} / {float(divisor)!r}", PRODUCT, "float")
            case ast.BinOp(op=ast.Mod()):
                piece = self._remainder(node, decimal=decimal)
            case ast.BinOp(op=op) if type(op) in _SUMS:
                mark, level = _SUMS[type(op)]
                left = self._arithmetic(node.left, decimal=decimal)
                right = self._arithmetic(node.right, decimal=decimal)
                kind: Kind = "float" if decimal else left.kind if left.kind == right.kind else "any"
                piece = Cel(f"{left.at(level)} {mark} {right.at(level + 1)}", level, kind)
            case ast.BinOp() | ast.UnaryOp():
                raise UnsupportedError(node, _unsupported(node.op))
            case _:
                piece = self._operand(node, decimal=decimal)
        return piece

    def _remainder(self, node: ast.BinOp, *, decimal: bool) -> Cel:
        """Translate % with Python's sign: the remainder of a positive divisor is never negative."""
        divisor = _divisor(node.right)
        if decimal or isinstance(divisor, float) or divisor < 0:
            raise UnsupportedError(node, "% takes whole numbers and a positive number to its right")
        left = self._arithmetic(node.left, decimal=False)
        return Cel(f"({left.at(PRODUCT)} % {divisor} + {divisor}) % {divisor}", PRODUCT, "int")

    def _operand(self, node: ast.expr, *, decimal: bool) -> Cel:
        piece = self.value(node)
        if piece.kind in {"bool", "null", "instant"} or (decimal and piece.kind in {"text", "list"}):
            raise UnsupportedError(node, "only numbers are reckoned with: compare this instead")
        if not decimal or piece.kind == "float":
            return piece
        if piece.kind == "int":
            if isinstance(node, ast.Constant):
                return literal(node, float(piece.text))
            return Cel(f"double({piece.text})", MEMBER, "float")
        whole = Cel(f"type({piece.text}) == int", RELATION, "bool")
        return choice(whole, Cel(f"double({piece.text})", MEMBER), piece)

    def _path(self, node: ast.expr) -> Cel:
        match node:
            case ast.Name(id=name):
                if name in self.bound or name in VARIABLES:
                    return Cel(name, MEMBER, "instant" if name == "now" else "any", path=True)
                return Cel(f"{_CONTEXT}{field_step(name)}", MEMBER, path=True)
            case ast.Attribute(value=value, attr=name):
                step = field_step(name)
            case ast.Subscript(value=value, slice=ast.Constant(value=str() as name)):
                step = field_step(name) if PLAIN.fullmatch(name) else f"[{literal(node, name).text}]"
            case ast.Subscript(value=value, slice=ast.Constant(value=int() as number)) if type(number) is int:
                step = f"[{number}]"
            case ast.Subscript():
                raise UnsupportedError(
                    node, "a place is a text or a whole number from 0 on, written out: x['name'] or x[0]"
                )
            case _:
                raise UnsupportedError(node, "a field is read of a name: bring the value in under one")
        inner = self._path(value)
        if inner.kind == "instant":
            raise UnsupportedError(node, "now has no fields: compare it with <, <=, > or >=")
        return Cel(f"{inner.text}{step}", MEMBER, path=True)

    def _list(self, elements: list[ast.expr]) -> Cel:
        parts = [self.value(each) for each in elements]
        return Cel(f"[{', '.join(part.text for part in parts)}]", MEMBER, "list")

    def _call(self, node: ast.Call, *, exact: bool) -> Cel:
        if node.keywords:
            raise UnsupportedError(node, "a call takes its values without names")
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[of]):
                return Cel(f"size({self.value(of).text})", MEMBER, "int")
            case ast.Call(func=ast.Name(id="any" | "all" as name), args=[ast.GeneratorExp() | ast.ListComp() as loop]):
                return self._loop(name, loop, exact=exact)
            case ast.Call(func=ast.Attribute(value=value, attr="startswith" | "endswith" as name), args=[start]):
                called = "startsWith" if name == "startswith" else "endsWith"
                text = self.value(value).at(MEMBER)
                return Cel(f"{text}.{called}({self.value(start).text})", MEMBER, "bool")
            case _:
                raise UnsupportedError(
                    node,
                    "only len(x), any(... for x in ...), all(... for x in ...), x.startswith(y) and x.endswith(y) "
                    "are called; a field that may be absent is tested with 'name' in command.context",
                )

    def _loop(self, name: str, loop: ast.GeneratorExp | ast.ListComp, *, exact: bool) -> Cel:
        generator = loop.generators[0]
        target = generator.target
        if len(loop.generators) > 1 or generator.is_async:
            raise UnsupportedError(loop, "one loop at a time: write any(any(... for y in x) for x in ...)")
        if not isinstance(target, ast.Name) or target.id in RESERVED | TYPES | {*VARIABLES}:
            raise UnsupportedError(target, "a loop has one variable, named like nothing else")
        over = self.value(generator.iter)
        if not over.path and over.kind != "list":
            raise UnsupportedError(generator.iter, "a loop goes over a field or a list")
        inner = _Translator(self.bound | {target.id})
        kept = [inner.condition(each, exact=True) for each in generator.ifs]
        if name == "any":
            found = all_of([*kept, inner.condition(loop.elt, exact=True)], exact=True)
            return Cel(f"size({over.text}.filter({target.id}, {found.text})) > 0", RELATION, "bool")
        held = inner.condition(loop.elt, exact=exact)
        if kept:
            held = choice(all_of(kept, exact=True), held, Cel("true", MEMBER, "bool"))
        if not exact:
            return Cel(f"{over.text}.all({target.id}, {held.text})", MEMBER, "bool")
        return Cel(f"size({over.text}.filter({target.id}, !{held.at(MEMBER)})) == 0", RELATION, "bool")


def _divisor(node: ast.expr) -> int | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value and node.value is not True:
        return node.value
    raise UnsupportedError(node, "only a number that is written out divides: write a > b * c instead of a / b > c")


def _is_decimal(node: ast.expr) -> bool:
    """Tell whether a decimal takes part in a sum."""
    match node:
        case ast.BinOp(op=ast.Div()):
            return True
        case ast.BinOp():
            return _is_decimal(node.left) or _is_decimal(node.right)
        case ast.UnaryOp():
            return _is_decimal(node.operand)
        case _:
            return isinstance(node, ast.Constant) and isinstance(node.value, float)


def _unsupported(node: ast.AST) -> str:
    instead = _INSTEAD.get(type(node))
    return (
        f"a condition cannot hold {instead}" if instead else f"a condition cannot hold a Python {type(node).__name__}"
    )
