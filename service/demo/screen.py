"""What a person sees while a scenario plays, and what a program reads: one line per check."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contracts.replies import Reply
from service.cli.output import say_json
from service.demo.checks import Check
from service.demo.events import SeenEvent

SHOWN_CHARS_MAX = 90
Advance = Callable[[], None]


class Screen(Protocol):
    """Where a scenario is shown."""

    def say(self, text: str) -> None:
        """Say something in passing."""

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show names and what they stand for."""

    def scenario(self, name: str, title: str, place: str) -> None:
        """Announce a scenario."""

    def sent(self, command_type: str, workflow_id: str, fields: Mapping[str, Any]) -> None:
        """Show a command on its way."""

    def came_back(self, reply: Reply, seconds: float | None) -> None:
        """Show a reply."""

    def event(self, seen: SeenEvent) -> None:
        """Show an event as it arrives."""

    def walk(self, states: Sequence[str]) -> None:
        """Show the states a workflow has been in; it stands in the last."""

    def check(self, check: Check) -> None:
        """Show a check."""

    def counting(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """Count up to a total while the block runs."""


class LinesScreen:
    """One JSON line per check, nothing else."""

    def say(self, text: str) -> None:
        """Keep silent."""

    def facts(self, facts: Mapping[str, str]) -> None:
        """Keep silent."""

    def scenario(self, name: str, title: str, place: str) -> None:
        """Keep silent."""

    def sent(self, command_type: str, workflow_id: str, fields: Mapping[str, Any]) -> None:
        """Keep silent."""

    def came_back(self, reply: Reply, seconds: float | None) -> None:
        """Keep silent."""

    def event(self, seen: SeenEvent) -> None:
        """Keep silent."""

    def walk(self, states: Sequence[str]) -> None:
        """Keep silent."""

    def check(self, check: Check) -> None:
        """Print the check."""
        say_json(check.written())

    def counting(self, what: str, total: int) -> AbstractContextManager[Advance]:  # noqa: ARG002 - the protocol's
        """Count nothing."""
        return nullcontext(lambda: None)


class LiveScreen:
    """A terminal, or a log: the same lines, with colour where it is shown."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print a dim line."""
        self._console.print(f"    [dim]{escape(text)}[/]")

    def facts(self, facts: Mapping[str, str]) -> None:
        """Print names and what they stand for, in two columns."""
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            self._console.print(f"  [dim]{name:<{width}}[/]  {escape(value)}")

    def scenario(self, name: str, title: str, place: str) -> None:
        """Print a heading."""
        self._console.print(f"\n[bold cyan]{escape(name)}[/]  {escape(title)}  [dim]{place}[/]")

    def sent(self, command_type: str, workflow_id: str, fields: Mapping[str, Any]) -> None:
        """Print a command."""
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        self._console.print(f"  [cyan]→[/] {command_type} [bold]{escape(workflow_id)}[/] {escape(_short(said))}")

    def came_back(self, reply: Reply, seconds: float | None) -> None:
        """Print a reply, with the reason where it is a refusal."""
        spent = "" if seconds is None else f"[dim]{seconds * 1000:.0f} ms[/]"
        again = " [yellow]duplicate[/]" if reply.duplicate else ""
        if reply.rejection is None:
            moved = f"{reply.from_state} → {reply.to_state}" if reply.from_state else f"{reply.to_state or reply.state}"
            self._console.print(f"  [green]←[/] accepted{again}  {moved}  version {reply.version}  {spent}")
            return
        refused = reply.rejection
        self._console.print(
            f"  [red]←[/] [red]{refused.code}[/] {refused.status}{again}  {escape(refused.message)}  {spent}"
        )
        for name, value in (refused.why or {}).items():
            self._console.print(f"      [dim]{name}[/] {escape(_short(str(value)))}")

    def event(self, seen: SeenEvent) -> None:
        """Print an event."""
        event = seen.event
        what = f"{escape(seen.ce_type)} [bold]{escape(event.workflow_id)}[/] {escape(event.message)}"
        where = f"sequence {event.sequence}, partition {seen.partition}, offset {seen.offset}"
        self._console.print(f"  [magenta]◆[/] {what}  [dim]{where}[/]")

    def walk(self, states: Sequence[str]) -> None:
        """Print the walk, the last state standing out."""
        *before, now = states
        passed = "".join(f"[dim]{escape(state)} ▸ [/]" for state in before)
        self._console.print(f"    {passed}[reverse] {escape(now)} [/]")

    def check(self, check: Check) -> None:
        """Print a check; one that fails says what was expected."""
        mark = "[green]✓[/]" if check.ok else "[bold red]✗[/]"
        self._console.print(f"  {mark} [dim]{check.number:>2}[/] {escape(check.what)}")
        if not check.ok:
            self._console.print(f"       [red]expected[/] {escape(str(check.expected))}")
            self._console.print(f"       [red]found[/]    {escape(str(check.actual))}")

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Advance]:
        """Show a bar on a terminal, nothing elsewhere."""
        if not self._console.is_terminal:
            self.say(f"{what} …")
            yield lambda: None
            return
        columns = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[: SHOWN_CHARS_MAX - 1]}…"
