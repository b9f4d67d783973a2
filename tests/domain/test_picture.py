"""What must hold of the picture of any definition: nothing overlaps, all is there, it is XML, and always the same."""

import random
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.definition import Definition
from domain.layers import CELLS_MAX, Edge, layered
from domain.layout import Box, Size, lay_out, spread
from domain.picture import svg
from service.definitions.files import read_definition, shipped
from tests.fakes.machines import compiled, door

SVG = "{http://www.w3.org/2000/svg}"
NAMES = "abcdefg"
SEEDS = st.integers(0, 2**32)
EXAMPLES = settings().max_examples // 3


def drawn(definition: Definition) -> ET.Element:
    """Draw a definition and read the picture."""
    text = svg(definition)
    assert text is not None
    return ET.fromstring(text)  # noqa: S314 - our own


def machine(states: dict[str, Any], ways: list[dict[str, Any]]) -> Definition:
    """Compile a machine of these states and transitions."""
    return compiled({"name": "t.t", "version": 1, "states": states, "transitions": ways})


def texts(picture: ET.Element) -> list[str]:
    """Return what is written in a picture, in its order."""
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def overlap(one: Box, other: Box) -> bool:
    """Tell whether two boxes share more than a border."""
    across = one.width + other.width - 2 * abs(one.x - other.x)
    return across > 1e-6 and one.height + other.height - 2 * abs(one.y - other.y) > 1e-6


def passed(points: tuple[tuple[float, float], ...]) -> list[Box]:
    """Return the boxes within which a line runs from point to point."""
    return [
        Box((x + to_x) / 2, (y + to_y) / 2, abs(x - to_x) + 0.01, abs(y - to_y) - 0.01)
        for (x, y), (to_x, to_y) in pairwise(points)
        if abs(y - to_y) > 0.02
    ]


def graph(seed: int) -> tuple[dict[str, Size], dict[Edge, Size]]:
    """Make up states and lines with labels, of many sizes, some with something beside them."""
    chance = random.Random(seed)
    dense = chance.choice((0.05, 0.15, 0.3, 0.6))

    def size(right: float) -> Size:
        return Size(chance.uniform(20, 200), chance.uniform(10, 60), right)

    nodes = {name: size(chance.choice((0.0, 90.0))) for name in NAMES}
    return nodes, {Edge(*pair): size(0.0) for pair in permutations(NAMES, 2) if chance.random() < dense}


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_nothing_overlaps_and_no_line_crosses_a_box(seed: int) -> None:
    """Boxes of states and labels, and what stands beside a state, are clear of each other and of all lines."""
    nodes, labels = graph(seed)
    layout = lay_out(nodes, labels)
    assert layout is not None
    beside = [
        Box(box.x + (box.width + nodes[name].right) / 2, box.y, nodes[name].right, box.height)
        for name, box in layout.nodes.items()
        if nodes[name].right
    ]
    boxes = [*layout.nodes.values(), *layout.labels.values(), *beside]
    assert [] == [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    for edge, points in layout.lines.items():
        others = [box for name, box in layout.nodes.items() if name not in {edge.source, edge.target}]
        others += [box for label, box in layout.labels.items() if label != edge] + beside
        assert [] == [(edge, box) for part in passed(points) for box in others if overlap(part, box)]
    for box in boxes:
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= layout.width
        assert box.y + box.height / 2 <= layout.height


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_a_line_leads_from_its_source_to_its_target(seed: int) -> None:
    """It begins and ends on the border of a state, and passes its label."""
    layout = lay_out(*graph(seed))
    assert layout is not None
    for edge, points in layout.lines.items():
        for name, (x, y) in ((edge.source, points[0]), (edge.target, points[-1])):
            box = layout.nodes[name]
            assert abs(x - box.x) <= box.width / 2
            assert pytest.approx(box.height / 2) == abs(y - box.y)
        label = layout.labels[edge]
        assert any(x == label.x and min(y, to) <= label.y <= max(y, to) for (x, y), (_, to) in pairwise(points))


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 50), st.floats(0.5, 4)), min_size=1, max_size=8),
)
def test_points_are_spread_as_near_as_they_can_be(given_points: list[tuple[float, float, float]]) -> None:
    """In order, apart, and where nothing stands in the way just where they are wanted."""
    wanted, gaps, weights = ([each[number] for each in given_points] for number in range(3))
    placed = spread(wanted, gaps[1:], weights)
    for (left, right), gap in zip(pairwise(placed), gaps[1:], strict=True):
        assert right - left >= gap - 1e-6
    if all(right - left >= gap for (left, right), gap in zip(pairwise(wanted), gaps[1:], strict=True)):
        assert pytest.approx(wanted) == placed


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_definition_is_drawn_whole(name: str) -> None:
    """Each state once, each pair's transitions at their line; the ends have two borders."""
    definition = read_definition(shipped()[name]).definition
    assert definition is not None
    picture = drawn(definition)
    written = texts(picture)
    assert set(definition.states) <= set(written)
    ways = [text for text in written if text.partition(" (at most")[0] in {way.name for way in definition.transitions}]
    assert sorted(way.name for way in definition.transitions) == sorted(text.partition(" (at")[0] for text in ways)
    rings = [element for element in picture.iter(f"{SVG}rect") if element.get("class") == "ring"]
    assert len(definition.terminal) == len(rings)


def test_the_picture_reads_aloud() -> None:
    """It has a role, a title and a description that says all that is drawn."""
    picture = drawn(compiled(door()))
    title, says = picture.find(f"{SVG}title"), picture.find(f"{SVG}desc")
    assert title is not None
    assert says is not None
    assert "img" == picture.get("role")
    assert [title.get("id"), says.get("id")] == (picture.get("aria-labelledby") or "").split()
    assert "shop.door version 1" == title.text
    assert "pull leads from shut to ajar, if its guard allows." in (says.text or "")
    assert (says.text or "").endswith("It ends in bricked.")


def test_names_are_text_whatever_they_hold() -> None:
    """Nothing in a name becomes markup."""
    evil = "<script>alert('&\"')</script>"
    ways = [{"name": "--></style>", "from": evil, "to": "]]>"}]
    picture = drawn(machine({evil: {"initial": True}, "]]>": None}, ways))
    assert [] == [*picture.iter(f"{SVG}script")]
    assert evil in [element.text for element in picture.iter(f"{SVG}title")]
    assert "--></style>" in texts(picture)


def test_a_loop_stands_beside_its_state() -> None:
    """And two transitions between the same states share a line."""
    ways = [
        {"name": name, "from": "a", "to": target}
        for name, target in (("again", "a"), ("once more", "a"), ("go", "b"), ("run", "b"))
    ]
    picture = drawn(machine({"a": {"initial": True}, "b": {"terminal": True}}, ways))
    assert ["a", "again", "b", "go", "once more", "run"] == sorted(texts(picture))
    assert 3 == len([path for path in picture.iter(f"{SVG}path") if path.get("class") == "line"])


def test_a_long_name_is_broken_and_kept_whole_in_its_title() -> None:
    """Labels by people fit their boxes."""
    name = "a state whose name " + "goes on and on " * 10 + "at last"
    picture = drawn(machine({name: {"initial": True}}, []))
    assert name in [element.text for element in picture.iter(f"{SVG}title")]
    assert 3 == len(texts(picture))
    assert max(map(len, texts(picture))) <= 28


def test_the_same_definition_gives_the_same_bytes() -> None:
    """Whatever was drawn before; and the styles of two pictures on one page do not mix."""
    first, second = svg(compiled(door())), svg(compiled(door(version=2)))
    assert first == svg(compiled(door()))
    rules = [set(re.findall(r"^(#\S+) ", text or "", re.MULTILINE)) for text in (first, second)]
    assert [{"#shop-door-1"}, {"#shop-door-2"}] == rules


def test_what_nobody_could_read_is_not_drawn() -> None:
    """Too many states, or too many lines past too many states."""
    states = {f"s{number}": {"initial": number == 0} for number in range(401)}
    assert None is svg(machine(states, []))
    names = [f"s{number}" for number in range(150)]
    edges = [Edge(one, other) for one, other in combinations(names, 2)]
    assert None is layered(names, edges)
    chain = layered(names, [Edge(one, other) for one, other in pairwise(names)])
    assert chain is not None
    assert sum(map(len, chain.layers)) <= CELLS_MAX
