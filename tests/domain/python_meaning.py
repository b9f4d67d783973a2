"""What a Python condition means: Python evaluates it, once as it is and once with the documented differences.

Only tests do this; the product never evaluates a condition as Python.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any


class Unlike(Exception):  # noqa: N818 - a way out of the evaluation
    """Where the documentation says that a condition means less than Python would take it for."""


class Json(dict[str, Any]):
    """A JSON object whose fields are read as attributes."""

    __getattr__ = dict.__getitem__


def boxed(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Make the fields of every object readable as attributes."""
    if isinstance(value, dict):
        return Json({name: boxed(each) for name, each in value.items()})
    return [boxed(each) for each in value] if isinstance(value, list) else value


def truth(value: object) -> bool:
    """Take what is true or false; Python would take anything."""
    if isinstance(value, bool):
        return value
    raise Unlike("neither true nor false")


def equal(left: object, right: object) -> bool:
    """Compare as JSON: `True` is not 1, at any depth."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def within(item: object, where: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Look for an element, a key, or a part of a text."""
    if isinstance(where, list | tuple):
        return any(equal(item, each) for each in where)
    if isinstance(where, dict) and item is None:
        raise Unlike("no key")
    return bool(item in where)


def ordered(compare: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    """Compare numbers with numbers, texts with texts."""

    def comparing(left: object, right: object) -> bool:
        if (_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
            return compare(left, right)
        if isinstance(left, bool) and isinstance(right, bool):
            return compare(left, right)
        raise Unlike("no order")

    return comparing


RELATIONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: equal,
    ast.NotEq: lambda left, right: not equal(left, right),
    ast.Is: equal,
    ast.IsNot: lambda left, right: not equal(left, right),
    ast.In: within,
    ast.NotIn: lambda item, where: not within(item, where),
    ast.Lt: ordered(operator.lt),
    ast.LtE: ordered(operator.le),
    ast.Gt: ordered(operator.gt),
    ast.GtE: ordered(operator.ge),
}
SUMS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


class Documented(ast.NodeTransformer):
    """Rewrites a condition so that Python evaluates what the documentation says it means."""

    def __init__(self) -> None:
        self.decimal: bool | None = None

    def visit(self, node: ast.AST) -> Any:  # noqa: ANN401 - as its base
        """Find out at the root of a sum whether a decimal takes part."""
        sums = isinstance(node, ast.BinOp) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub))
        before, self.decimal = self.decimal, None if not sums else self.decimal
        if sums and self.decimal is None:
            self.decimal = any(
                isinstance(each, ast.Div) or (isinstance(each, ast.Constant) and isinstance(each.value, float))
                for each in _summands(node)
            )
        visited = super().visit(node)
        self.decimal = before
        return visited

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Insist on truths."""
        self.generic_visit(node)
        node.values = [_call("truth", each) for each in node.values]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Insist on a truth, or on a number."""
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            node.operand = _call("truth", node.operand)
            return node
        return _call("minus", node.operand)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """Insist on a truth."""
        self.generic_visit(node)
        node.test = _call("truth", node.test)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Compare as JSON."""
        self.generic_visit(node)
        operands = [node.left, *node.comparators]
        parts: list[ast.expr] = [
            _call("relate", ast.Constant(type(op).__name__), left, right)
            for op, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True)
        ]
        return ast.BoolOp(ast.And(), parts) if len(parts) > 1 else parts[0]

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Reckon with numbers of one kind, unless a decimal is written in the sum."""
        decimal = self.decimal
        self.generic_visit(node)
        return _call("reckon", ast.Constant(type(node.op).__name__), node.left, node.right, ast.Constant(decimal))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Take a field or an element, never a letter."""
        self.generic_visit(node)
        node.value = _call("elements", node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Judge each element: any and all skip nothing."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in {"any", "all"}:
            (loop,) = node.args
            assert isinstance(loop, ast.GeneratorExp)
            loop.generators[0].ifs = [_call("truth", each) for each in loop.generators[0].ifs]
            loop.generators[0].iter = _call("elements", loop.generators[0].iter)
            node.args = [ast.ListComp(_call("truth", loop.elt), loop.generators)]
        return node


def _summands(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield node.op
        yield from _summands(node.left)
        yield from _summands(node.right)
    elif isinstance(node, ast.UnaryOp):
        yield from _summands(node.operand)
    else:
        yield node


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [*arguments], [])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def relate(name: str, left: object, right: object) -> bool:
    """Compare by the operator of that name."""
    return RELATIONS[getattr(ast, name)](left, right)


def reckon(name: str, left: Any, right: Any, decimal: bool | None) -> Any:  # noqa: ANN401, FBT001 - called by generated code
    """Reckon with the operator of that name."""
    texts = name == "Add" and type(left) is type(right) and isinstance(left, str | list)
    if texts and not decimal:
        return left + right
    if not (_is_number(left) and _is_number(right)) or (not decimal and type(left) is not type(right)):
        raise Unlike("numbers of one kind")
    if name == "Mod" and not isinstance(left, int):
        raise Unlike("whole numbers")
    found = SUMS[getattr(ast, name)](left, right)
    return float(found) if decimal else found


def minus(value: object) -> object:
    """Turn a number's sign."""
    if not _is_number(value):
        raise Unlike("no number")
    return -value  # type: ignore[operator]  # it is a number


def elements(value: object) -> object:
    """Return what a loop goes over or an index picks from; Python would take a text's letters."""
    if isinstance(value, str):
        raise Unlike("the letters of a text")
    return value


WORLD = {
    "truth": truth, "relate": relate, "reckon": reckon, "minus": minus, "elements": elements,
    "len": len, "any": any, "all": all,
}  # fmt: skip


def documented(source: str, context: dict[str, Any]) -> bool:
    """Say whether a condition holds by its documentation: Python evaluates it, with the differences written down."""
    tree = ast.fix_missing_locations(Documented().visit(ast.parse(source, mode="eval")))
    try:
        return eval(compile(tree, "condition", "eval"), {"__builtins__": {}, **WORLD, **boxed(context)}) is True  # noqa: S307 - the test's own text
    except (Unlike, TypeError, KeyError, NameError, AttributeError, IndexError, ZeroDivisionError):
        return False


def python(source: str, context: dict[str, Any]) -> bool:
    """Say whether a condition holds by Python alone; an exception is a no."""
    try:
        world = {
            "__builtins__": {"len": len, "any": any, "all": all},
            **boxed(context),
        }  # loops see globals
        return bool(eval(source, world))  # noqa: S307 - the test's own text
    except (TypeError, KeyError, NameError, AttributeError, IndexError, ZeroDivisionError):
        return False
