"""A worker's way to broker and database through toxiproxy, so that it can be slow, cut or reset while it runs."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

import orjson

from service.app import Endpoints
from service.local.ports import HOST, is_open
from service.local.process import until

PROGRAM = "toxiproxy-server"
MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0"
BUILT = Path.home() / ".cache" / "turnstile" / "go"
TOXICS: dict[str, dict[str, int]] = {
    "latency": {"latency": 400, "jitter": 200},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 200},
}
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Proxies:
    """Two proxies, named broker and database, and the endpoints of who goes through them.

    The broker advertises its own port, so a client must map `broker_port` to `broker_proxy` itself.
    """

    endpoints: Endpoints
    broker_port: int
    broker_proxy: int
    control: int

    @classmethod
    @asynccontextmanager
    async def opened(cls, direct: Endpoints, folder: Path) -> AsyncIterator[Self]:
        """Run toxiproxy during the block."""
        control, broker, database = (_free_port() for _ in range(3))
        with (folder / "toxiproxy.log").open("ab") as log:
            server = await asyncio.create_subprocess_exec(
                str(toxiproxy()), "-host", HOST, "-port", str(control), stdout=log, stderr=log
            )
        try:
            assert await until(lambda: is_open(control), START_SECONDS), "toxiproxy does not answer"
            target = urlsplit(direct.database_url)
            port = int(direct.bootstrap_servers.rpartition(":")[2])
            through = target._replace(netloc=f"{target.netloc.rpartition(':')[0]}:{database}")
            proxies = cls(Endpoints(f"{HOST}:{broker}", urlunsplit(through)), port, broker, control)
            await proxies.ask("/proxies", name="broker", listen=f"{HOST}:{broker}", upstream=f"{HOST}:{port}")
            await proxies.ask(
                "/proxies", name="database", listen=f"{HOST}:{database}", upstream=f"{HOST}:{target.port}"
            )
            yield proxies
        finally:
            server.kill()
            await server.wait()

    async def add(self, name: str, toxic: str) -> None:
        """Disturb a proxy, both ways."""
        for stream in ("upstream", "downstream"):
            await self.ask(f"/proxies/{name}/toxics", type=toxic, stream=stream, attributes=TOXICS[toxic])

    async def heal(self, name: str) -> None:
        """Let a proxy pass everything again."""
        toxics = (await self.ask(f"/proxies/{name}"))["toxics"]
        for toxic in toxics:
            await self.ask(f"/proxies/{name}/toxics/{toxic['name']}", method="DELETE")

    async def ask(self, path: str, method: str | None = None, **body: Any) -> Any:  # noqa: ANN401 - any JSON
        """Ask toxiproxy's own interface."""
        return await asyncio.to_thread(self._ask, path, method, body)

    def _ask(self, path: str, method: str | None, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        request = Request(
            f"http://{HOST}:{self.control}{path}",
            data=orjson.dumps(body) if body else None,
            headers={"User-Agent": "turnstile-tests", "Content-Type": "application/json"},
            method=method or ("POST" if body else "GET"),
        )
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            said = answer.read()
        return orjson.loads(said) if said else None


@lru_cache
def toxiproxy() -> Path | None:
    """Return the program, built where Go is and it is not; None where neither is."""
    found = shutil.which(PROGRAM)
    if found is not None:
        return Path(found)
    built = BUILT / "server"
    go = shutil.which("go")
    if not built.exists() and go is not None:
        done = subprocess.run([go, "install", MODULE], env=os.environ | {"GOBIN": str(BUILT)}, check=False)
        if done.returncode != 0:
            return None
    return built if built.exists() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
