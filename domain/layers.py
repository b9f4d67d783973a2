"""A directed graph cut into layers for drawing: cycles turned, nodes ranked, few crossings, always the same.

Layers alternate: nodes stand on the even ones, labels of edges on the odd ones between. An edge is a chain of cells,
one on each layer from end to end, so that nothing it passes is drawn over.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 12
CELLS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one node to another; a pair has one edge at most, and no node one to itself."""

    source: str
    target: str


@dataclass(slots=True)
class Layered:
    """Cells by layer, in order from left to right.

    Cells are numbers; `of_node` tells a node's, `chains` an edge's from its upper end to its lower one, `turned` the
    edges whose upper end is their target, `label` the cell of an edge's label.
    """

    layers: list[list[int]]
    of_node: dict[str, int]
    chains: dict[Edge, list[int]]
    turned: frozenset[Edge]
    label: dict[Edge, int]


def layered(nodes: Sequence[str], edges: Sequence[Edge]) -> Layered | None:
    """Arrange a graph in layers; None where it would take more than `CELLS_MAX` cells."""
    leaving: dict[str, list[Edge]] = {node: [] for node in nodes}
    for edge in edges:
        leaving[edge.source].append(edge)
    turned, finished = _turned(nodes, leaving)
    ranks = _ranks(finished, leaving, turned)
    if len(nodes) + sum(2 * abs(ranks[edge.target] - ranks[edge.source]) for edge in edges) > CELLS_MAX:
        return None
    arranged = _chained(nodes, edges, turned, ranks)
    _order(arranged)
    return arranged


def _turned(nodes: Sequence[str], leaving: Mapping[str, Sequence[Edge]]) -> tuple[frozenset[Edge], list[str]]:
    """Walk the graph in the order given; edges back into the walk are turned. Also return nodes as they are left."""
    turned: set[Edge] = set()
    entered: set[str] = set()
    left: dict[str, None] = {}
    for start in nodes:
        if start in entered:
            continue
        entered.add(start)
        walk = [(start, iter(leaving[start]))]
        while walk:
            node, ways = walk[-1]
            edge = next(ways, None)
            if edge is None:
                left[node] = None
                walk.pop()
            elif edge.target not in entered:
                entered.add(edge.target)
                walk.append((edge.target, iter(leaving[edge.target])))
            elif edge.target not in left:
                turned.add(edge)
    return frozenset(turned), list(left)


def _ranks(finished: Sequence[str], leaving: Mapping[str, Sequence[Edge]], turned: frozenset[Edge]) -> dict[str, int]:
    """Rank each node below all that lead to it."""
    below: dict[str, list[str]] = {node: [] for node in finished}
    for edge in (edge for node in finished for edge in leaving[node]):
        upper, lower = (edge.target, edge.source) if edge in turned else (edge.source, edge.target)
        below[upper].append(lower)
    ranks = dict.fromkeys(finished, 0)
    for node in reversed(finished):
        for lower in below[node]:
            ranks[lower] = max(ranks[lower], ranks[node] + 1)
    return ranks


def _chained(nodes: Sequence[str], edges: Sequence[Edge], turned: frozenset[Edge], ranks: Mapping[str, int]) -> Layered:
    layers: list[list[int]] = [[] for _ in range(2 * max(ranks.values(), default=0) + 1)]
    of_node = {node: number for number, node in enumerate(nodes)}
    for node, number in of_node.items():
        layers[2 * ranks[node]].append(number)
    chains: dict[Edge, list[int]] = {}
    label: dict[Edge, int] = {}
    number = len(nodes)
    for edge in edges:
        upper, lower = (edge.target, edge.source) if edge in turned else (edge.source, edge.target)
        between = range(2 * ranks[upper] + 1, 2 * ranks[lower])
        chain = range(number, number + len(between))
        number += len(between)
        for layer, cell in zip(between, chain, strict=True):
            layers[layer].append(cell)
        chains[edge] = [of_node[upper], *chain, of_node[lower]]
        # The label of a long edge stands beside its source, where it is looked for.
        label[edge] = chain[-1] if edge in turned else chain[0]
    return Layered(layers, of_node, chains, turned, label)


def _order(arranged: Layered) -> None:
    """Order each layer by where its cells' neighbours stand, up and down in turn, and keep the best order met."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for chain in arranged.chains.values():
        for upper, lower in pairwise(chain):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    layers = arranged.layers
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        pairs = pairwise(layers)
        for fixed, moved in pairs if down else [(lower, upper) for upper, lower in pairs][::-1]:
            _arrange(moved, fixed, above if down else below)
        _swap(layers, above, below)
        found = _crossings(layers, below)
        if found < fewest:
            best, fewest = [list(layer) for layer in layers], found
    arranged.layers = best


def _arrange(moved: list[int], fixed: Sequence[int], neighbours: Mapping[int, Sequence[int]]) -> None:
    place = {cell: index for index, cell in enumerate(fixed)}
    scale = len(fixed) / max(1, len(moved))
    wanted = {}
    for index, cell in enumerate(moved):
        near = neighbours.get(cell, ())
        wanted[cell] = sum(place[each] for each in near) / len(near) if near else index * scale
    moved.sort(key=wanted.__getitem__)


def _swap(layers: Sequence[list[int]], above: Mapping[int, Sequence[int]], below: Mapping[int, Sequence[int]]) -> None:
    """Exchange neighbours in a layer where that saves crossings on both sides of it."""
    place = {cell: index for layer in layers for index, cell in enumerate(layer)}
    for layer in layers:
        for index in range(len(layer) - 1):
            left, right = layer[index], layer[index + 1]
            saved = 0
            for near in (above, below):
                ours = [place[each] for each in near.get(left, ())]
                theirs = [place[each] for each in near.get(right, ())]
                saved += sum((one > other) - (one < other) for one in ours for other in theirs)
            if saved > 0:
                layer[index], layer[index + 1] = right, left
                place[left], place[right] = index + 1, index


def _crossings(layers: Sequence[Sequence[int]], below: Mapping[int, Sequence[int]]) -> int:
    crossings = 0
    for upper, lower in pairwise(layers):
        place = {cell: index for index, cell in enumerate(lower)}
        seen: list[int] = []
        for cell in upper:
            ends = sorted(place[each] for each in below.get(cell, ()))
            crossings += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return crossings
