"""A definition's YAML text read, checked and compiled, each finding with its line and column.

Nothing here raises on what an author wrote: bad text is findings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from typing import Any

from contracts.definitions import GUARD_LANGUAGES
from contracts.predicates import Guard
from domain.canonical import canonical
from domain.condition_text import Problem
from domain.conditions import translate
from domain.definition import Definition, check, compile_document, guard_of
from domain.findings import Finding, Path
from domain.model_check import check_model
from service.definitions.yaml_tree import Place, Tree, read_tree
from service.predicates.engines import Engines

_AT_KEY = frozenset(
    {"BAD_DATE", "DEAD_END", "NOT_SUPPORTED_YET", "UNKNOWN_CLAUSE", "UNKNOWN_TRANSITION", "UNREACHABLE_STATE"}
)
_SUFFIX = ".yaml"
_ENGINE_WORDS = {"cel": "this CEL expression does not compile", "jsonlogic": "this JSONLogic rule may not be asked"}


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


def read_definition(text: str, engines: Engines | None = None) -> Parsed:
    """Read a definition from YAML text; findings are ordered by their place."""
    tree = read_tree(text)
    if tree.findings:
        return Parsed(None, None, ordered(tree.findings), b"", "")
    compiled = compile_document(tree.document)
    found = [*check(tree.document), *_guards(tree.document, engines or Engines())]
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


def _guards(document: Any, engines: Engines) -> Iterator[Finding]:  # noqa: ANN401 - whatever the text held
    for path, guard in _written_guards(document):
        flaw = engines.compile(guard)
        if flaw is not None:
            what = _ENGINE_WORDS[guard.engine]
            if path[-1] == "python":
                what = f"the CEL of this condition, {guard.expression}, does not compile"
            yield Finding("error", "BAD_GUARD", f"{what}: {flaw.message}", (*path, *flaw.path))


def _written_guards(document: Any) -> Iterator[tuple[Path, Guard]]:  # noqa: ANN401 - whatever the text held
    transitions = document.get("transitions") if isinstance(document, dict) else None
    for index, transition in enumerate(transitions if isinstance(transitions, list) else ()):
        guard: Any = transition.get("guard") if isinstance(transition, dict) else None
        path: Path = ("transitions", index, "guard")
        if isinstance(guard, str) and guard:
            yield path, guard_of("cel", guard)
        for language in GUARD_LANGUAGES if isinstance(guard, dict) else ():
            written = guard.get(language)
            if language == "python" and isinstance(written, str):
                written = None if isinstance(translate(written), Problem) else written
            if written is not None if language == "jsonlogic" else isinstance(written, str) and written:
                yield (*path, language), guard_of(language, written)


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
