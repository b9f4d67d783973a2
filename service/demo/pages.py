"""Reads the worker's pages as Prometheus and a load balancer would."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import orjson
from prometheus_client.parser import text_string_to_metric_families

READ_SECONDS_MAX = 5.0
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Page:
    """An answer's status and body."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What /health/ready says: each partition's phase by its number."""

    status: int
    ready: bool
    phases: Mapping[str, str]

    @property
    def active(self) -> bool:
        """Tell whether the worker takes turns of every partition it was given, and was given some."""
        return self.ready and bool(self.phases)


async def read_page(address: str, path: str) -> Page:
    """Fetch one page; raises OSError where nobody answers."""
    place = urlsplit(address)
    async with asyncio.timeout(READ_SECONDS_MAX):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {place.netloc}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    words = head.split(maxsplit=2)
    if len(words) < 2:  # noqa: PLR2004 - "HTTP/1.1 200 OK"
        raise ConnectionError(f"{address}{path} gave no answer")
    return Page(int(words[1]), body.decode())


async def read_readiness(address: str) -> Readiness | None:
    """Ask whether a worker is ready; None where nobody answers."""
    try:
        page = await read_page(address, "/health/ready")
    except OSError:
        return None
    state = orjson.loads(page.body) if page.status in {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE} else {}
    phases = {part: each["phase"] for part, each in state.get("partitions", {}).items()}
    return Readiness(page.status, bool(state.get("ready")), phases)


@dataclass(frozen=True, slots=True)
class Scrape:
    """Every sample of one scrape."""

    samples: Mapping[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of this name that have these labels; 0 where there is none."""
        wanted = set(labels.items())
        return sum(value for (sample, held), value in self.samples.items() if sample == name and wanted <= held)


async def scrape(address: str) -> Scrape:
    """Read /metrics; raises OSError or ValueError where that is no exposition."""
    page = await read_page(address, "/metrics")
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.body)
            for sample in family.samples
        }
    )
