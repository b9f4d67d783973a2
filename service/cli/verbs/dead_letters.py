"""`dead-letters`: records that could not be read, with as much of them as was kept."""

from base64 import b64decode
from typing import Annotated, Any

import typer

from service.cli.exits import RefusedError
from service.cli.main import app, run
from service.cli.output import ERR, OUT, say_fields, say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import BIGINT_MAX, INT_MAX, AsJson
from service.cli.verbs.reach import asking
from service.store.reads import DeadLetterRow, dead_letter, dead_letters

PREVIEW_BYTES = 2048

letters = typer.Typer(no_args_is_help=True, help="Look at records that could not be read.")
app.add_typer(letters, name="dead-letters")


@letters.command("list")
def list_(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 50,
    offset: Annotated[int, typer.Option(min=0, max=BIGINT_MAX, help="How many to pass over.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest first."""

    async def work() -> list[DeadLetterRow]:
        async with asking(settings()) as connection:
            return await dead_letters(connection, limit=limit, offset=offset)

    found = run(work())
    if as_json:
        for row in found:
            say_json(_fields(row))
        return
    if not found:
        ERR.print("no dead letters")
        return
    say_table(
        ("partition", "row", "decided", "record", "bytes", "reason", "message"),
        (
            (
                row.part,
                row.seq,
                f"{row.decided_at:%Y-%m-%d %H:%M:%S}",
                f"{row.letter['topic']}/{row.letter['partition']}/{row.letter['offset']}",
                row.letter["value_length"],
                row.letter["reason"],
                row.letter["message"][:100],
            )
            for row in found
        ),
    )


@letters.command()
def show(
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, max=INT_MAX, show_default=False)],
    seq: Annotated[int, typer.Argument(metavar="ROW", min=1, max=BIGINT_MAX, show_default=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter, its value as text or hexadecimal bytes. With --json all that was kept, in base64."""

    async def work() -> DeadLetterRow | None:
        async with asking(settings()) as connection:
            return await dead_letter(connection, partition, seq)

    row = run(work())
    if row is None:
        raise RefusedError(
            f"partition {partition} has no dead letter in row {seq}; `turnstile dead-letters list` shows them"
        )
    if as_json:
        say_json({**_fields(row), "value": row.letter.get("value"), "headers": row.letter.get("headers", [])})
        return
    fields = _fields(row)
    if fields.get("key") is not None:
        fields["key"] = readable(b64decode(fields["key"]))
    say_fields(fields)
    for name, value in row.letter.get("headers", []):
        OUT.print(f"header {name}  {'-' if value is None else readable(b64decode(value))}", markup=False)
    kept = b64decode(row.letter.get("value") or "")
    rest = "" if len(kept) <= PREVIEW_BYTES else f", the first {PREVIEW_BYTES} of {len(kept)} bytes kept"
    OUT.print(f"value{rest}", markup=False)
    OUT.print(readable(kept, PREVIEW_BYTES), markup=False)


def readable(raw: bytes, most: int | None = None) -> str:
    """Return the first `most` bytes as text where they are printable text, else in hexadecimal."""
    kept = raw[:most]
    # A cut may have gone through a character of up to four bytes.
    ends = range(len(kept), max(len(kept) - 4, -1), -1) if len(kept) < len(raw) else (len(kept),)
    for end in ends:
        try:
            text = kept[:end].decode()
        except UnicodeDecodeError:
            continue
        if all(character.isprintable() or character in "\n\r\t" for character in text):
            return text
        break
    return kept.hex(" ")


def _fields(row: DeadLetterRow) -> dict[str, Any]:
    kept = {name: value for name, value in row.letter.items() if name not in ("value", "headers")}
    return {"partition": row.part, "seq": row.seq, "decided_at": row.decided_at, **kept}
