"""What is known of two guards without asking them: their text, and nothing that their text means."""

import pytest

from contracts.predicates import Guard
from domain.stances import ALWAYS, NEVER, stance, stance_of

OPPOSITES = [
    ("cel", "a.b", "!a.b"),
    ("cel", "a == 1", "!(a == 1)"),
    ("cel", "a==1", " ! ( ( a  == 1 ) ) // never"),
    ("cel", "!(!(a && b))", "!(a && b)"),
    ("cel", "!!!a", "(a)"),
    ("cel", "has(a.b)", "!has(a.b)"),
    ("cel", "a[0].f(x, 'y z')", "!(a[0].f(x,'y z'))"),
    ("cel", "!('x' in a)", "'x' in a"),
    ("cel", "true", "false"),
    ("cel", "true", "!(true)"),
    ("jsonlogic", '{"==":[1,{"var":"a"}]}', '{"!":{"==":[1,{"var":"a"}]}}'),
    ("jsonlogic", '{"var":"a"}', '{"!":[{"var":"a"}]}'),
    ("jsonlogic", '{"!":[[1]]}', "[1]"),
    ("jsonlogic", "true", '{"!":[true]}'),
]
INDEPENDENT = [
    ("cel", "a == 1", "!a == 1"),  # which is (!a) == 1
    ("cel", "a && b", "!a && b"),
    ("cel", "a && b", "!a && !b"),
    ("cel", "a in b", "!a in b"),
    ("cel", "(a) || (b)", "!(a) || (b)"),
    ("cel", "a == 'x y'", "!(a == 'x  y')"),
    ("cel", "a ? b : c", "!a ? b : c"),
    ("cel", "a - b", "!a - b"),
    ("cel", "a.b", "!b.a"),
    ("cel", "ab", "!(a b)"),
    ("cel", "a == 1", "!(1 == a)"),
    ("cel", "'true'", "false"),
    ("cel", "!", ""),
    ("cel", "!(a", "a"),
    ("jsonlogic", '{"var":"a"}', '{"!":[{"var":"a"},1]}'),
    ("remote", "orders/allow", "!orders/allow"),
]


@pytest.mark.parametrize(("engine", "one", "other"), OPPOSITES)
def test_a_text_and_its_negation_exclude_each_other(engine: str, one: str, other: str) -> None:
    """Whatever the layout, and however often it is turned round; neither excludes itself."""
    first, second = stance_of(engine, one), stance_of(engine, other)
    assert first.excludes(second)
    assert second.excludes(first)
    assert (False, False) == (first.excludes(first), second.excludes(second))


@pytest.mark.parametrize(("engine", "one", "other"), INDEPENDENT)
def test_other_texts_may_both_be_met(engine: str, one: str, other: str) -> None:
    """Only what is literally a negation counts as one."""
    assert not stance_of(engine, one).excludes(stance_of(engine, other))


def test_engines_do_not_know_each_other() -> None:
    """The same text in another language is another condition."""
    assert not stance_of("cel", "a").excludes(stance_of("remote", "!a"))


def test_no_guard_is_always_met() -> None:
    """As is a literal true; a literal false never is."""
    assert (ALWAYS, ALWAYS, NEVER) == (
        stance(None),
        stance(Guard(engine="cel", expression="( true )")),
        stance(Guard(engine="cel", expression="!true")),
    )


def test_a_hostile_text_is_read_in_linear_time() -> None:
    """Parentheses and negations nested as deep as a text is long."""
    assert "a" == stance_of("cel", "!(" * 10_000 + "a" + ")" * 10_000).condition[1]
    assert stance_of("cel", "!" * 20_000 + "a").holds
