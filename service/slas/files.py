"""A configured SLA's YAML text read, checked and compiled, each finding with its line and column.

Nothing here raises on what an author wrote: bad text is findings.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from contracts.slas import ConfiguredSlaDocument
from domain.canonical import canonical
from domain.findings import Finding
from domain.shape import read_shape
from domain.sla_config import SlaConfig, check_config, compile_config
from service.definitions.files import ordered, placed
from service.definitions.yaml_tree import read_tree

_SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True)
class ParsedSla:
    """What a text came to: `config` is there if no finding is an error, `canonical` if the text is YAML."""

    config: SlaConfig | None
    findings: tuple[Finding, ...]
    canonical: bytes
    digest: str


def read_sla(text: str) -> ParsedSla:
    """Read a configured SLA from YAML text; findings are ordered by their place."""
    tree = read_tree(text)
    if tree.findings:
        return ParsedSla(None, ordered(tree.findings), b"", "")
    body = canonical(tree.document)
    document = read_shape(ConfiguredSlaDocument, tree.document)
    found = check_config(document) if isinstance(document, ConfiguredSlaDocument) else document
    findings = ordered([placed(finding, tree) for finding in found])
    usable = isinstance(document, ConfiguredSlaDocument) and all(each.severity != "error" for each in findings)
    config = compile_config(document) if usable and isinstance(document, ConfiguredSlaDocument) else None
    return ParsedSla(config, findings, body, sha256(body).hexdigest())


def compile_stored(document: object) -> SlaConfig | tuple[Finding, ...]:
    """Compile a document that was applied."""
    read = read_shape(ConfiguredSlaDocument, document)
    return compile_config(read) if isinstance(read, ConfiguredSlaDocument) else read


def shipped_slas() -> dict[str, str]:
    """Return the YAML text of every configured SLA that comes with the service, by its name."""
    return {
        entry.name.removesuffix(_SUFFIX): entry.read_text(encoding="utf-8")
        for entry in sorted(files(__package__).iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(_SUFFIX)
    }
