"""Guards that mean harm, in both languages: exponential, enormous, recursive, without end.

All are asked in one process of their own that the system ends beyond its time and memory: a guard that runs away there
takes the test with it, and what was answered before it tells which one it was.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.service.hostile_guards import CPU_SECONDS, MEMORY_BYTES, refused_at_check

Rule = Any
REFUSED, DENIED, JUDGED = "refused", "deny", "judged"

L, S, ACC, CURRENT = ({"var": path} for path in ("command.l", "command.s", "accumulator", "current"))
ITEM = {"var": ""}


def kept(condition: Rule) -> Rule:
    """Return a fold that keeps a large text and looks at it for each item."""
    return {"===": [{"reduce": [L, {"if": [condition, ACC, ACC]}, S]}, 1]}


def nested(depth: int) -> str:
    """Return a rule nested so deep."""
    return '{"!":[' * depth + "true" + "]}" * depth


JSONLOGIC: list[tuple[str, Rule, str]] = [
    ("a list that doubles by reference", {"reduce": [[1] * 60, [ACC, ACC], 1]}, REFUSED),
    ("two of them compared", {"==": [{"reduce": [L, [ACC, ACC], 1]}] * 2}, REFUSED),
    ("the fold's own scope kept", {"reduce": [L, ITEM, 1]}, REFUSED),
    ("the fold's own scope doubled", {"reduce": [L, {"merge": [{"map": [ITEM, ITEM]}] * 2}, 1]}, REFUSED),
    ("reaching out of a loop", {"map": [L, {"val": [[2], "accumulator"]}]}, REFUSED),
    ("lists of lists of lists", {"map": [{"map": [{"map": [L, [ITEM] * 20]}, [ITEM] * 20]}, [ITEM] * 20]}, REFUSED),
    ("a text that doubles", {"reduce": [[1] * 60, {"cat": [ACC, ACC]}, "x"]}, REFUSED),
    ("a list that doubles", {"reduce": [[1] * 60, {"merge": [ACC, ACC]}, [1]]}, REFUSED),
    ("a text for each item", {"map": [L, {"cat": [S, "x" * 3000]}]}, REFUSED),
    ("paths for each item", {"map": [L, {"missing": ["a"] * 900}]}, REFUSED),
    ("operands for each item", {"all": [L, {"<": [{"max": [1] * 1500}, 2]}]}, REFUSED),
    ("three loops", {"all": [L, {"all": [[1] * 60, {"all": [[1] * 60, True]}]}]}, REFUSED),
    ("a path made on the way", {"var": {"cat": ["command.", "l"]}}, REFUSED),
    ("enormous", {"or": [0] * 5000}, REFUSED),
    ("deep", nested(500), REFUSED),
    ("deeper than a parser likes", "[" * 4000, REFUSED),
    ("squared", {"all": [L, {"all": [[1] * 1900, True]}]}, DENIED),
    ("squared, built", {"===": [{"map": [L, {"map": [[1] * 1900, ITEM]}]}, 1]}, DENIED),
    ("a large text compared for each item", kept({"<": [ACC, ACC]}), DENIED),
    ("a large text found in for each item", kept({"in": ["2", ACC]}), DENIED),
    ("a large text read as a number for each item", kept({"==": [ACC, 1]}), DENIED),
    ("lists made into text", {"===": [{"cat": [L] * 180}, 1]}, DENIED),
    ("lists made into text, nested", {"===": [{"cat": [[[L] * 9] * 20]}, 1]}, DENIED),
    ("lists joined", {"===": [{"merge": [L] * 180}, 1]}, DENIED),
    ("lists compared", {"and": [{"!==": [[L, n], [L, L]]} for n in range(40)] + [False]}, DENIED),
    ("texts compared", {"and": [{"<=": [S, {"var": f"command.s{n}"}]} for n in range(60)] + [False]}, DENIED),
    ("loops behind what is false", {"and": [False] + [{"all": [L, {"<": [ITEM, 9 + n]}]} for n in range(60)]}, DENIED),
    ("loops behind what is null", {"and": [None] + [{"all": [L, {"<": [ITEM, 9 + n]}]} for n in range(60)]}, DENIED),
    ("many loops", {"and": [{"all": [L, {"<": [ITEM, 9 + n]}]} for n in range(60)]}, DENIED),
]
CEL: list[tuple[str, str, str]] = [
    ("a list that doubles", "[1].map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).size() > 0", REFUSED),
    ("a text that doubles", "command.l.all(x, (command.s + command.s).size() > 0)", REFUSED),
    ("three loops", "command.l.all(a, command.l.all(b, command.l.all(c, true)))", REFUSED),
    ("enormous", " || ".join(["false"] * 1000), REFUSED),
    ("deep", "(" * 2000 + "true" + ")" * 2000, REFUSED),
    ("a path without end", "command" + ".a" * 2000 + " == 1", REFUSED),
    ("a pattern that the inputs bring", "command.s.matches(command.s)", REFUSED),
    ("squared", "command.l.all(a, command.l.all(b, a - b < 9999999))", DENIED),
    ("a large text compared for each item", "command.l.all(a, command.s != 'x')", DENIED),
    ("patterns that explode", " || ".join(["command.s.matches('^((a?){50}){20}b$')"] * 80), DENIED),
    ("lists compared for each item", "command.l.all(a, command.l == command.l)", DENIED),
    ("a chain of nots", "!" * 3999 + "true", JUDGED),
]
CASES = [("jsonlogic", what, rule if isinstance(rule, str) else json.dumps(rule, separators=(",", ":")), expected)
         for what, rule, expected in JSONLOGIC] + [("cel", *case) for case in CEL]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the system's limits on a process are Linux's")
def test_hostile_guards_are_refused_or_denied_within_time_and_memory() -> None:
    """Each has its own answer, none opens, and all of them together stay within what one guard may take at most."""
    asked = json.dumps([(engine, expression) for engine, _, expression, _ in CASES])
    done = subprocess.run(
        [sys.executable, "-m", "tests.service.hostile_guards"], input=asked, capture_output=True, text=True, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    came = f"ended with {done.returncode} after {len(answers)}, {CPU_SECONDS} s, {MEMORY_BYTES} bytes: {done.stderr}"
    assert len(CASES) == len(answers), f"{CASES[len(answers)][:2]} {came}"
    found = [
        (engine, what, REFUSED if refused_at_check(said) else JUDGED if expected == JUDGED else said["outcome"])
        for (engine, what, _, expected), said in zip(CASES, answers, strict=True)
    ]
    assert [(engine, what, expected) for engine, what, _, expected in CASES] == found
    assert "allow" not in {said["outcome"] for said in answers}
    assert done.returncode == 0, came
