"""A definition's YAML text read, checked and compiled, each finding with its line and column.

Nothing here raises on what an author wrote: bad text is findings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from typing import Any

from domain.canonical import canonical
from domain.conditions import translate
from domain.definition import Definition, Finding, Path, check, compile_document
from domain.model_check import check_model
from service.definitions.yaml_tree import Place, Tree, read_tree
from service.predicates.cel import CelEngine

_AT_KEY = frozenset(
    {"BAD_DATE", "DEAD_END", "NOT_SUPPORTED_YET", "UNKNOWN_CLAUSE", "UNKNOWN_TRANSITION", "UNREACHABLE_STATE"}
)
_SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text came to: `definition` is there if no finding is an error, `canonical` if the text is YAML.

    `canonical` is the document as canonical JSON, `digest` its SHA-256 in hex: the same for texts that differ in
    layout and comments alone.
    """

    document: Any
    definition: Definition | None
    findings: tuple[Finding, ...]
    canonical: bytes
    digest: str


def read_definition(text: str, engine: CelEngine | None = None) -> Parsed:
    """Read a definition from YAML text; findings are ordered by their place."""
    tree = read_tree(text)
    if tree.findings:
        return Parsed(None, None, ordered(tree.findings), b"", "")
    compiled = compile_document(tree.document)
    found = [*check(tree.document), *_guards(tree.document, engine or CelEngine())]
    if isinstance(compiled, Definition):
        found += check_model(compiled, tree.document)
    findings = ordered([placed(finding, tree) for finding in found])
    usable = isinstance(compiled, Definition) and not any(finding.severity == "error" for finding in findings)
    body = canonical(tree.document)
    return Parsed(
        tree.document,
        compiled if usable and isinstance(compiled, Definition) else None,
        findings,
        body,
        sha256(body).hexdigest(),
    )


def shipped() -> dict[str, str]:
    """Return the YAML text of every definition that comes with the service, by the definition's name."""
    return {
        entry.name.removesuffix(_SUFFIX): entry.read_text(encoding="utf-8")
        for entry in sorted(files(__package__).iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(_SUFFIX)
    }


def _guards(document: Any, engine: CelEngine) -> Iterator[Finding]:  # noqa: ANN401 - whatever the text held
    for path, expression in _expressions(document):
        problem = engine.compile(expression)
        if problem is not None:
            what = f"the CEL of this condition, {expression}," if path[-1] == "python" else "this CEL expression"
            yield Finding("error", "BAD_GUARD", f"{what} does not compile: {problem}", path)


def _expressions(document: Any) -> Iterator[tuple[Path, str]]:  # noqa: ANN401 - whatever the text held
    transitions = document.get("transitions") if isinstance(document, dict) else None
    for index, transition in enumerate(transitions if isinstance(transitions, list) else ()):
        guard = transition.get("guard") if isinstance(transition, dict) else None
        path: Path = ("transitions", index, "guard")
        if isinstance(guard, dict):
            language = "python" if "python" in guard else "cel"
            guard, path = guard.get(language), (*path, language)
            if isinstance(guard, str) and language == "python":
                guard = translate(guard)
        if isinstance(guard, str) and guard:
            yield path, guard.strip()


def placed(finding: Finding, tree: Tree) -> Finding:
    """Return a finding with its line and column."""
    line, column = _place(finding, tree)
    return replace(finding, line=line, column=column)


def _place(finding: Finding, tree: Tree) -> Place:
    """Return where the finding's path is in the text, or the innermost part of it that is there."""
    first, second = (tree.keys, tree.values) if finding.code in _AT_KEY else (tree.values, tree.keys)
    for length in range(len(finding.path), -1, -1):
        part = finding.path[:length]
        place = first.get(part) or second.get(part)
        if place is not None:
            return place
    return 1, 1


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return findings by their place in the text."""
    return tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.column or 0)))
