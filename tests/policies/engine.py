"""A remote policy engine that answers as a test says, well or ill; every byte is its own, no HTTP library mends it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from service.local.ports import HOST, choose_port

# Below the range from which the kernel gives ports to clients: one that tries again while this engine is down could be
# given that very port, and speak to itself.
PORTS = range(12000, 16000)

Json = Mapping[str, Any]
Judge = Callable[[str, Json], Any]
"""A policy's name and input to its verdict, as the JSON of it."""

Fault = Callable[["ScriptedEngine", Json, asyncio.StreamWriter], Any]


def obliging(_policy: str, seen: Json) -> Any:  # noqa: ANN401 - any JSON
    """Allow all but what its context says to deny, and say why."""
    context = seen["command"]["context"]
    if context.get("deny"):
        return {"allow": False, "reason": "it is to be denied", "values": {"command.context.deny": context["deny"]}}
    return True


class ScriptedEngine:
    """Speaks both dialects on one port, which stays its own while it is down; `allowed` counts what it let pass.

    `fault` takes the place of an answer, and ends the connection unless it returns True; `requests` are the policies
    that each request asked for.
    """

    def __init__(self, judge: Judge = obliging) -> None:
        self.judge = judge
        self.fault: Fault | None = None
        self.seconds = 0.0
        self.requests: list[list[str]] = []
        self.headers: list[dict[str, str]] = []
        self.allowed = 0
        self.at_once = self.at_once_most = 0
        self.port = choose_port(PORTS, None)
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    @property
    def is_down(self) -> bool:
        """Whether it refuses connections."""
        return self._server is None

    async def up(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._talk, HOST, self.port, limit=64 * 1024 * 1024)

    async def down(self) -> None:
        """Refuse connections, and drop those there are."""
        assert self._server is not None
        self._server.close()
        self._server = None
        talks, self._talks = self._talks, {}
        for task, writer in talks.items():
            writer.transport.abort()
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in talks if task is not None), return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks[asyncio.current_task()] = writer
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._talks.pop(asyncio.current_task(), None)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in head[1:] if line)}
        body = orjson.loads(await reader.readexactly(int(headers["content-length"])))
        path = head[0].split(" ")[1].partition("?")[0]
        self.headers.append(headers)
        self.at_once += 1
        self.at_once_most = max(self.at_once, self.at_once_most)
        try:
            return await self._judged(path, body, writer)
        finally:
            self.at_once -= 1

    async def _judged(self, path: str, body: Json, writer: asyncio.StreamWriter) -> bool:
        data = path.removeprefix("/v1/data/")
        questions = (
            body.get("questions") or body["input"].get("questions") or [{"policy": data, "input": body["input"]}]
        )
        self.requests.append([each["policy"] for each in questions])
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.fault is not None:
            keeps = self.fault(self, body, writer)
            if asyncio.iscoroutine(keeps):
                keeps = await keeps
            await writer.drain()
            return keeps is True
        verdicts = [self.judge(each["policy"], each["input"]) for each in questions]
        self.allowed += sum(each is True or (isinstance(each, dict) and each.get("allow") is True) for each in verdicts)
        if "questions" in body:
            say(writer, {"verdicts": verdicts})
        else:
            say(writer, {"result": verdicts if "questions" in body["input"] else verdicts[0]})
        await writer.drain()
        return True


def say(writer: asyncio.StreamWriter, answer: Any, status: str = "200 OK", *headers: str) -> bool:  # noqa: ANN401
    """Write an answer: JSON, or bytes as they are; returns True, for the connection stays."""
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    return True


@asynccontextmanager
async def scripted_engine(judge: Judge = obliging) -> AsyncIterator[ScriptedEngine]:
    """Run one during the block."""
    engine = ScriptedEngine(judge)
    await engine.up()
    try:
        yield engine
    finally:
        if not engine.is_down:
            await engine.down()
