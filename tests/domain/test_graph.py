"""A definition as a Mermaid picture."""

from domain.definition import Definition, compile_document
from domain.graph import mermaid


def drawn(states: dict[str, object], transitions: list[dict[str, object]]) -> str:
    """Draw a machine."""
    definition = compile_document({"name": "t", "version": 1, "states": states, "transitions": transitions})
    assert isinstance(definition, Definition)
    return mermaid(definition)


def test_guards_and_ends_are_marked() -> None:
    """The picture starts at the initial state and ends at the terminal ones."""
    states: dict[str, object] = {"A": {"initial": True}, "B": None, "Z": {"terminal": True}}
    picture = drawn(
        states,
        [
            {"name": "go", "from": "A", "to": "B"},
            {"name": "end", "from": ["A", "B"], "to": "Z", "guard": "true"},
        ],
    )
    assert picture == (
        "stateDiagram-v2\n"
        "    [*] --> A\n"
        "    A --> B : go\n"
        "    A --> Z : end [guard]\n"
        "    B --> Z : end [guard]\n"
        "    Z --> [*]\n"
    )


def test_names_that_mermaid_would_misread_are_aliased() -> None:
    """Blanks, quotes, colons and Mermaid's own words do not break the picture."""
    states: dict[str, object] = {'Wait; "now": #1': {"initial": True}, "end": None, "State": None}
    picture = drawn(states, [{"name": "a: b", "from": 'Wait; "now": #1', "to": "end"}])
    assert picture == (
        "stateDiagram-v2\n"
        '    state "Wait#59; #quot;now#quot;#58; #35;1" as state_1\n'
        '    state "end" as state_2\n'
        '    state "State" as state_3\n'
        "    [*] --> state_1\n"
        "    state_1 --> state_2 : a#58; b\n"
    )
