"""Where the parts of a layered drawing stand: no two overlap, chains run as straight as there is room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from domain.layers import Edge, Layered, layered

_SWEEPS = 40
_SIDE = 22.0
_LEVEL = 26.0
_PORT = 18.0
_LANE = 10.0
_MARGIN = 16.0
_STUB = 9.0
_SLOPE, _LEVEL_MAX = 0.14, 64.0
_SHORT, _STRAIGHT, _LOOSE = 2.0, 4.0, 0.4
_SHORTEST = 3  # a node, a label, a node

Point = tuple[float, float]


class Size(NamedTuple):
    """How much room something takes, in pixels; `right` is room besides, to its right."""

    width: float
    height: float
    right: float = 0.0


class Box(NamedTuple):
    """Where something stands: its centre and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing's size, the boxes of nodes and labels, and per edge the points from its source to its target.

    Between an even point and the next the line runs straight down or up, between others as a curve; it stops above its
    label and goes on below.
    """

    width: float
    height: float
    nodes: Mapping[str, Box]
    labels: Mapping[Edge, Box]
    lines: Mapping[Edge, tuple[Point, ...]]


def lay_out(nodes: Mapping[str, Size], labels: Mapping[Edge, Size]) -> Layout | None:
    """Place nodes, and the labels of the edges between them; None where that would be too much to draw."""
    arranged = layered(list(nodes), list(labels))
    if arranged is None:
        return None
    sizes = {cell: nodes[node] for node, cell in arranged.of_node.items()}
    sizes |= {cell: labels[edge] for edge, cell in arranged.label.items()}
    x = _across(arranged, sizes)
    bands = _bands(arranged, sizes, x)
    layer_of = {cell: number for number, layer in enumerate(arranged.layers) for cell in layer}

    def box(cell: int) -> Box:
        top, bottom = bands[layer_of[cell]]
        return Box(x[cell], (top + bottom) / 2, sizes[cell].width, sizes[cell].height)

    boxes = {node: box(cell) for node, cell in arranged.of_node.items()}
    lines = _lines(arranged, boxes, x, [bands[layer_of[cell]] for cell in range(len(layer_of))])
    right = max((each.x + each.width / 2 + nodes[node].right for node, each in boxes.items()), default=0.0)
    right = max([right, *(px for line in lines.values() for px, _ in line)])
    shown = {edge: box(cell) for edge, cell in arranged.label.items()}
    right = max([right, *(each.x + each.width / 2 for each in shown.values())])
    return Layout(right + _MARGIN, bands[-1][1] + _MARGIN, boxes, shown, lines)


def _across(arranged: Layered, sizes: Mapping[int, Size]) -> dict[int, float]:
    """Give each cell its x: near its neighbours, in its layer's order, clear of those beside it."""
    near = _neighbours(arranged)
    gaps = [_gaps(layer, sizes) for layer in arranged.layers]
    x: dict[int, float] = {}
    for layer, apart in zip(arranged.layers, gaps, strict=True):
        at = -sum(apart) / 2
        for cell, gap in zip(layer, [*apart, 0.0], strict=True):
            x[cell], at = at, at + gap
    for sweep in range(_SWEEPS):
        order = range(len(gaps)) if sweep % 2 == 0 else range(len(gaps) - 1, -1, -1)
        for number in order:
            layer = arranged.layers[number]
            weights = [sum(pull for _, pull in near.get(cell, ((cell, 1.0),))) for cell in layer]
            wanted = [
                sum(x[each] * pull for each, pull in near.get(cell, ((cell, 1.0),))) / weight
                for cell, weight in zip(layer, weights, strict=True)
            ]
            x.update(zip(layer, spread(wanted, gaps[number], weights), strict=True))
    left = min((x[cell] - _half(cell, sizes) for cell in x), default=0.0)
    return {cell: at - left + _MARGIN for cell, at in x.items()}


def _neighbours(arranged: Layered) -> dict[int, list[tuple[int, float]]]:
    """Return each cell's neighbours and how strongly they pull: long chains run straight, and hang loosely."""
    near: dict[int, list[tuple[int, float]]] = {}
    for chain in arranged.chains.values():
        for number, (upper, lower) in enumerate(pairwise(chain)):
            outer = number in {0, len(chain) - 2}
            pull = _SHORT if len(chain) == _SHORTEST else _LOOSE if outer else _STRAIGHT
            near.setdefault(upper, []).append((lower, pull))
            near.setdefault(lower, []).append((upper, pull))
    return near


def spread(wanted: Sequence[float], gaps: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Place points in their order, at least the gaps apart and as near to where they are wanted as the weights say."""
    offset, blocks = 0.0, list[tuple[float, float, int]]()
    offsets = []
    for number, (want, weight) in enumerate(zip(wanted, weights, strict=True)):
        offset += gaps[number - 1] if number else 0.0
        offsets.append(offset)
        mean, heavy, count = want - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, more, many = blocks.pop()
            mean = (mean * heavy + before * more) / (heavy + more)
            heavy, count = heavy + more, count + many
        blocks.append((mean, heavy, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _gaps(layer: Sequence[int], sizes: Mapping[int, Size]) -> list[float]:
    """Return how far apart the centres of neighbours in a layer are at least."""
    return [
        _half(left, sizes) + (sizes[left].right if left in sizes else 0.0) + _SIDE + _half(right, sizes)
        for left, right in pairwise(layer)
    ]


def _half(cell: int, sizes: Mapping[int, Size]) -> float:
    return (sizes[cell].width if cell in sizes else _LANE) / 2


def _bands(arranged: Layered, sizes: Mapping[int, Size], x: Mapping[int, float]) -> list[tuple[float, float]]:
    """Return each layer's top and bottom; where lines go far to a side there is more room for their curves."""
    layer_of = {cell: number for number, layer in enumerate(arranged.layers) for cell in layer}
    aside = [0.0] * len(arranged.layers)
    for chain in arranged.chains.values():
        for upper, lower in pairwise(chain):
            aside[layer_of[upper]] = max(aside[layer_of[upper]], abs(x[upper] - x[lower]))
    bands, top = [], _MARGIN
    for layer, far in zip(arranged.layers, aside, strict=True):
        bottom = top + max((sizes[cell].height for cell in layer if cell in sizes), default=0.0)
        bands.append((top, bottom))
        top = bottom + min(max(_LEVEL, far * _SLOPE), _LEVEL_MAX)
    return bands


def _lines(
    arranged: Layered, boxes: Mapping[str, Box], x: Mapping[int, float], bands: Sequence[tuple[float, float]]
) -> dict[Edge, tuple[Point, ...]]:
    names = {cell: node for node, cell in arranged.of_node.items()}
    ends: dict[tuple[int, bool], list[tuple[float, Edge]]] = {}
    for edge, chain in arranged.chains.items():
        ends.setdefault((chain[0], True), []).append((x[chain[1]], edge))
        ends.setdefault((chain[-1], False), []).append((x[chain[-2]], edge))
    ports: dict[tuple[int, bool, Edge], float] = {}
    for (cell, below), leaving in ends.items():
        ordered = sorted(leaving, key=lambda end: end[0])
        for (_, edge), at in zip(ordered, _ports(boxes[names[cell]], [end for end, _ in ordered]), strict=True):
            ports[cell, below, edge] = at
    lines = {}
    for edge, chain in arranged.chains.items():
        upper, lower = boxes[names[chain[0]]], boxes[names[chain[-1]]]
        inner = [(x[cell], level) for cell in chain[1:-1] for level in bands[cell]]
        start = (ports[chain[0], True, edge], upper.y + upper.height / 2)
        end = (ports[chain[-1], False, edge], lower.y - lower.height / 2)
        turned = edge in arranged.turned
        leaves = (start[0], bands[chain[0]][1] + _STUB * turned)
        meets = (end[0], bands[chain[-1]][0] - _STUB * (not turned))
        points = (start, leaves, *inner, meets, end)
        lines[edge] = points[::-1] if turned else points
    return lines


def _ports(box: Box, wanted: Sequence[float]) -> list[float]:
    """Return where lines meet a side of a box: below one another's next points, within the box."""
    room = max(0.0, box.width - 2 * _LANE)
    apart = min(_PORT, room / max(1, len(wanted) - 1))
    first = box.x - room / 2
    last = first + room - apart * (len(wanted) - 1)
    held = [min(max(want - number * apart, first), last) + number * apart for number, want in enumerate(wanted)]
    return spread(held, [apart] * (len(wanted) - 1), [1.0] * len(wanted))
