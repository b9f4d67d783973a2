"""A definition as a picture: SVG that stands alone, reads aloud, and suits light and dark pages."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from textwrap import wrap
from unicodedata import east_asian_width

from domain.definition import Definition, Transition
from domain.layers import Edge
from domain.layout import Box, Layout, Point, Size, lay_out

_START = ""  # no state is called so
_STATE_PX, _LABEL_PX, _LINE = 14.0, 12.0, 1.3
_WORDS_MAX, _LINES_MAX = 26, 3
_LOOP = 34.0
_STATES_MAX = 400
# How wide letters are in a wide sans-serif face, in parts of the font's size.
_NARROW, _WIDE = frozenset("iljftI.,:;'!|()[]- "), frozenset("mwMW@%&")
# Written out for each scheme: viewers other than browsers know no variables.
_SCHEMES = (
    ("", "#1f2933", "#52606d", "#7b8794", "#ffffff", "#f5f7fa", "#dbeafe", "#e4e7eb"),
    (
        "@media (prefers-color-scheme: dark) ",
        "#f0f4f8",
        "#b8c4d0",
        "#829ab1",
        "#14181d",
        "#242c35",
        "#123f5a",
        "#323f4b",
    ),
)
_STYLE = """\
{id} text {{ font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; font-size: 12px;
  text-anchor: middle; }}
{id} .state text {{ font-size: 14px; font-weight: 600; }}
{id} .note {{ text-anchor: start; }}
{id} .line, {id} .guard, {id} .ring {{ fill: none; }}
{id} .line {{ stroke-width: 1.4; }}
{id} .box, {id} .ring, {id} .guard {{ stroke-width: 1.2; }}
"""
_COLOURS = """\
{id} .paper {{ fill: {paper}; }}
{id} text {{ fill: {soft}; }}
{id} .state text {{ fill: {ink}; }}
{id} .box {{ fill: {node}; }}
{id} .first .box {{ fill: {first}; }}
{id} .last .box {{ fill: {last}; }}
{id} .box, {id} .ring, {id} .line {{ stroke: {line}; }}
{id} .guard {{ stroke: {soft}; }}
{id} .tip {{ fill: {line}; }}
"""


def svg(definition: Definition) -> str | None:
    """Draw states and transitions from the initial state down; None where there are too many to be legible.

    A state that ends a workflow has two borders, a guarded transition a small diamond before its name.
    """
    if len(definition.states) > _STATES_MAX:
        return None
    ways: dict[Edge, list[Transition]] = {}
    for transition in definition.transitions:
        ways.setdefault(Edge(transition.source, transition.target), []).append(transition)
    shown = {name: _lines(name) for name in definition.states}
    texts = {edge: [_label(way, definition) for way in each] for edge, each in ways.items()}
    loops = {edge.source: _size(texts[edge]) for edge in ways if edge.source == edge.target}
    sizes = {_START: Size(14, 14)} | {
        name: Size(
            max(64.0, max(map(_width, lines)) * _STATE_PX + 28),
            len(lines) * _STATE_PX * _LINE + 18,
            loops[name].width + _LOOP if name in loops else 0.0,
        )
        for name, lines in shown.items()
    }
    labels = {Edge(_START, definition.initial): Size(1, 1)} | {
        edge: _size(text) for edge, text in texts.items() if edge.source != edge.target
    }
    layout = lay_out(sizes, labels)
    return None if layout is None else "\n".join(_drawn(definition, layout, shown, texts)) + "\n"


def _drawn(
    definition: Definition,
    layout: Layout,
    shown: Mapping[str, Sequence[str]],
    texts: Mapping[Edge, Sequence[tuple[str, bool]]],
) -> Iterator[str]:
    guarded = any(mark for text in texts.values() for _, mark in text)
    title = f"{definition.name} version {definition.version}"
    name = f"{definition.name.replace('.', '-')}-{definition.version}"
    width, height = max(layout.width, 120.0), layout.height + 22 * guarded
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" role="img" aria-labelledby="{name}-title {name}-says" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
    )
    yield f'<title id="{name}-title">{escape(title)}</title>'
    yield f'<desc id="{name}-says">{escape(" ".join(_sentences(definition)))}</desc>'
    yield f"<style>\n{_style(f'#{name}')}</style>"
    yield f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="8"/>'
    for edge, points in layout.lines.items():
        yield from _way(points, layout.labels[edge], texts.get(edge, ()))
    start = layout.nodes[_START]
    yield f'<circle class="tip" cx="{start.x:.1f}" cy="{start.y:.1f}" r="{start.width / 2:.1f}"/>'
    for state, lines in shown.items():
        loop = texts.get(Edge(state, state))
        if loop is not None:
            yield from _loop(layout.nodes[state], loop)
        role = " last" if state in definition.terminal else " first" if state == definition.initial else ""
        yield from _state(state, layout.nodes[state], lines, role)
    if guarded:
        yield _diamond(22, height - 18)
        yield f'<text class="note" x="32" y="{height - 14:.1f}">asks a guard</text>'
    yield "</svg>"


def _style(where: str) -> str:
    names = ("ink", "soft", "line", "paper", "node", "first", "last")
    parts = [_STYLE.format(id=where)]
    for condition, *colours in _SCHEMES:
        rules = _COLOURS.format(id=where, **dict(zip(names, colours, strict=True)))
        parts.append(f"{condition}{{\n{rules}}}\n" if condition else rules)
    return "".join(parts)


def _sentences(definition: Definition) -> Iterator[str]:
    yield f"A state machine that starts in {definition.initial}."
    for transition in definition.transitions:
        guarded = "" if transition.guard is None else ", if its guard allows"
        yield f"{transition.name} leads from {transition.source} to {transition.target}{guarded}."
    if definition.terminal:
        yield f"It ends in {', '.join(name for name in definition.states if name in definition.terminal)}."


def _state(name: str, box: Box, lines: Sequence[str], role: str) -> Iterator[str]:
    yield f'<g class="state{role}"><title>{escape(name)}</title>'
    yield _rectangle("box", box, 0.0)
    if "last" in role:
        yield _rectangle("ring", box, 3.5)
    yield from _text(lines, box, _STATE_PX)
    yield "</g>"


def _rectangle(kind: str, box: Box, inset: float) -> str:
    width, height = box.width - 2 * inset, box.height - 2 * inset
    x, y = box.x - width / 2, box.y - height / 2
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{9 - inset:.1f}"/>'
    )


def _way(points: Sequence[Point], label: Box, text: Sequence[tuple[str, bool]]) -> Iterator[str]:
    yield '<g class="way">'
    yield f'<path class="line" d="{_path(points, label if text else None)}"/>'
    yield _tip(points[-1], down=points[-1][1] > points[-2][1] or points[-1][1] > points[0][1])
    yield from _label_text(text, label)
    yield "</g>"


def _path(points: Sequence[Point], label: Box | None) -> str:
    """Write straight runs and the curves between them; the line is broken by its label."""
    steps = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for number, ((x, y), (to_x, to_y)) in enumerate(pairwise(points)):
        if number % 2:
            middle = (y + to_y) / 2
            steps.append(f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}")
            continue
        if label is not None and x == label.x and min(y, to_y) <= label.y <= max(y, to_y):
            half = label.height / 2 if to_y > y else -label.height / 2
            steps.append(f"V{label.y - half:.1f}M{x:.1f},{label.y + half:.1f}")
        if to_y != y:
            steps.append(f"V{to_y:.1f}")
    return "".join(steps)


def _tip(point: Point, *, down: bool) -> str:
    x, y = point
    back = -8 if down else 8
    return f'<path class="tip" d="M{x:.1f},{y:.1f}l-4.5,{back}h9z"/>'


def _loop(box: Box, text: Sequence[tuple[str, bool]]) -> Iterator[str]:
    right, size = box.x + box.width / 2, _size(text)
    out, low, high = right + 24, box.y + box.height / 4, box.y - box.height / 4
    yield '<g class="way">'
    yield (
        f'<path class="line" d="M{right:.1f},{low:.1f}C{out:.1f},{low + 8:.1f} {out:.1f},{high - 8:.1f} '
        f'{right:.1f},{high:.1f}"/>'
    )
    yield f'<path class="tip" d="M{right:.1f},{high:.1f}l8,-4.5v9z"/>'
    yield from _label_text(text, Box(right + 24 + size.width / 2, box.y, size.width, size.height))
    yield "</g>"


def _label_text(text: Sequence[tuple[str, bool]], box: Box) -> Iterator[str]:
    yield from _text([line for line, _ in text], box, _LABEL_PX)
    for number, (line, guarded) in enumerate(text):
        if guarded:
            y = _baseline(number, len(text), box, _LABEL_PX) - _LABEL_PX * 0.34
            yield _diamond(box.x - _width(line) * _LABEL_PX / 2 - 7, y)


def _text(lines: Sequence[str], box: Box, size: float) -> Iterator[str]:
    for number, line in enumerate(lines):
        y = _baseline(number, len(lines), box, size)
        yield f'<text x="{box.x:.1f}" y="{y:.1f}">{escape(line)}</text>'


def _baseline(number: int, count: int, box: Box, size: float) -> float:
    return box.y + (number - (count - 1) / 2) * size * _LINE + size * 0.35


def _diamond(x: float, y: float) -> str:
    return f'<path class="guard" d="M{x:.1f},{y - 4:.1f}l4,4l-4,4l-4,-4z"/>'


def _label(transition: Transition, definition: Definition) -> tuple[str, bool]:
    (line, *more) = _lines(transition.name, most=1)
    most = definition.max_retries if transition.retry else None
    limit = "" if most is None else f" (at most {most})"
    return "".join((line, *more)) + limit, transition.guard is not None


def _lines(name: str, *, most: int = _LINES_MAX) -> list[str]:
    return wrap(name, _WORDS_MAX, max_lines=most, placeholder=" …") or [name]


def _size(text: Sequence[tuple[str, bool]]) -> Size:
    width = max(_width(line) * _LABEL_PX + 28 * guarded for line, guarded in text)
    return Size(width + 8, len(text) * _LABEL_PX * _LINE + 4)


def _width(text: str) -> float:
    """Estimate a text's width in parts of its font's size, rather too wide than too narrow."""
    return sum(map(_letter, text))


def _letter(letter: str) -> float:
    if east_asian_width(letter) in "WF":
        return 1.05
    if letter in _NARROW:
        return 0.4
    if letter in _WIDE:
        return 0.98
    return 0.78 if letter.isupper() else 0.64
