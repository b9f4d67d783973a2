"""What machines ask over HTTP: Prometheus's scrape, and whether this process lives and is ready."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.telemetry import Telemetry

Readiness = Callable[[], Awaitable[dict[str, Any]]]
Stuck = Callable[[], str | None]


def build(telemetry: Telemetry, readiness: Readiness, stuck: Stuck) -> Starlette:
    """Return the application; `readiness` gives each part's state, and `ready`; `stuck` why this process is to end."""

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(telemetry.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def live(_: Request) -> Response:
        reason = stuck()
        return JSONResponse({"live": reason is None, "reason": reason}, status_code=200 if reason is None else 503)

    async def ready(_: Request) -> Response:
        state = await readiness()
        return JSONResponse(state, status_code=200 if state["ready"] else 503)

    return Starlette(routes=[Route("/metrics", metrics), Route("/health/live", live), Route("/health/ready", ready)])


@asynccontextmanager
async def serving(app: Starlette, listener: socket.socket) -> AsyncIterator[str]:
    """Serve within the running loop and give the address."""
    config = uvicorn.Config(app, log_level="error", lifespan="off", access_log=False)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        address = listener.getsockname()
        yield f"http://{address[0]}:{address[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


class _Server(uvicorn.Server):
    """A server that leaves signals to the process that runs it."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture none."""
        return nullcontext()
