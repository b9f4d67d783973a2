"""What verbs say alike of what is applied in versions that never change: definitions, calendars, configured SLAs."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import typer

from domain.findings import Finding
from service.cli.exits import Exit, RefusedError
from service.cli.output import ERR, OUT, say_json
from service.store.versions import Stored


class Named(Protocol):
    """A document that was read."""

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def version(self) -> int:
        """Return its number."""
        ...


V = TypeVar("V", bound=Stored)


def say_finding(finding: Finding, name: str, *, as_json: bool) -> None:
    """Print a finding where a person or an editor finds its place."""
    if as_json:
        fields = ("severity", "code", "message", "line", "column", "commands")
        say_json({"file": name, **{field: getattr(finding, field) for field in fields}})
    else:
        OUT.print(finding_line(finding, name), markup=False)


def say_checked(findings: Iterable[Finding], name: str, found: Named | None, *, as_json: bool) -> None:
    """Print what is wrong with a document, or that it is sound; raises Exit where it cannot be used."""
    for finding in findings:
        say_finding(finding, name, as_json=as_json)
    if found is None:
        raise typer.Exit(Exit.REFUSED)
    if not as_json:
        OUT.print(f"{found.name} version {found.version} is sound", markup=False)


def say_on_the_way(findings: Iterable[Finding], name: str, *, usable: bool) -> None:
    """Print on stderr what is found in a document that is to be used; of one that cannot be, the errors alone."""
    for finding in findings:
        if finding.severity == "error" or usable:
            ERR.print(finding_line(finding, name), markup=False)


def finding_line(finding: Finding, name: str) -> str:
    """Say a finding as compilers do, so that editors find its place."""
    return f"{name}:{finding.line or 1}:{finding.column or 1}: {finding.severity}: {finding.code}: {finding.message}"


def say_applied(name: str, version: int, digest: str, *, applied: bool, as_json: bool) -> None:
    """Say whether a version was stored just now."""
    if as_json:
        say_json({"name": name, "version": version, "digest": digest, "applied": applied})
    else:
        done = "applied" if applied else "is applied already"
        OUT.print(f"{name} version {version} {done}", markup=False)


def say_source(source: str) -> None:
    """Print a document as it was applied."""
    OUT.file.write(source if source.endswith("\n") else f"{source}\n")


def told(each: Stored, *more: str) -> dict[str, object]:
    """Return what is told of a version to programs, and more of its fields."""
    fields = ("name", "version", "digest", "applied_at", "applied_by", *more)
    return {field: getattr(each, field) for field in fields}


def wanted(found: Sequence[V], kind: str, name: str, version: int | None) -> V:
    """Return the version that is asked for, the newest by default; raises RefusedError."""
    for each in found:
        if version in (None, each.version):
            return each
    said = name if version is None else f"{name} version {version}"
    raise RefusedError(f"no {kind} {said}; `turnstile {kind}s list` shows what there is")
