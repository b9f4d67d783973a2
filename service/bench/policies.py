"""The policy engine of a measurement, a process of its own: allows everything, some milliseconds after it was asked.

`python -m service.bench.policies PORT SECONDS`. It reads each request as an engine must, and does no more.
"""

import asyncio
import sys
from typing import cast

import orjson
import uvloop

from service.local.ports import HOST

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Talk(asyncio.Protocol):
    """One connection: requests in, each answered after its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of asyncio's

    def data_received(self, data: bytes) -> None:
        """Take what came, and answer each request that is whole."""
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            head = bytes(self._received[:end]).lower()
            at = head.find(_LENGTH) + len(_LENGTH)
            body_from = end + len(_HEAD_END)
            body_to = body_from + int(head[at:].split(b"\r\n", 1)[0])
            if len(self._received) < body_to:
                return
            asked = orjson.loads(bytes(self._received[body_from:body_to]))
            del self._received[:body_to]
            asyncio.get_running_loop().call_later(self._seconds, self._answer, len(asked["questions"]))

    def _answer(self, questions: int) -> None:
        body = orjson.dumps({"verdicts": [True] * questions})
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def serve(port: int, seconds: float) -> None:
    """Answer until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: Talk(seconds), HOST, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
