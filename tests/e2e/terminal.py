"""A shell in which the tests type the command line's verbs."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from service.cli.main import main
from tests.e2e.outside import TURNSTILE


class Said(NamedTuple):
    """What a run came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """Return the JSON lines on stdout."""
        return [orjson.loads(line) for line in self.out.splitlines()]


class Terminal:
    """A shell with the settings of a test; a verb runs in a thread, since a process takes seconds to begin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._one = asyncio.Lock()

    async def __call__(self, *words: str, stdin: str = "") -> Said:
        """Run the turnstile command and wait for its end."""
        async with self._one, asyncio.timeout(90):
            said = await asyncio.to_thread(_run, words, stdin)
        assert "Traceback" not in said.err, said.err
        return said

    @asynccontextmanager
    async def left_running(self, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run it as a process beside the block."""
        process = await asyncio.create_subprocess_exec(
            TURNSTILE, *words, cwd=self.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _run(words: tuple[str, ...], stdin: str) -> Said:
    code: object = None
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        patch.setattr(sys, "argv", ["turnstile", *words])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return Said(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())
