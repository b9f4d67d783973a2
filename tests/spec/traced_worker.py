"""A worker as `turnstile serve` runs it, whose protocol steps are recorded: python -m tests.spec.traced_worker FILE."""

import asyncio
import sys
from pathlib import Path

import uvloop

from service.adapters import Adapters, adapters
from service.app import serve
from service.cli.surroundings import endpoints, settings
from service.logs import configure
from service.settings import Settings
from service.store.pool import Pool
from tests.tracing import record


def main(path: Path) -> None:
    """Serve until SIGTERM."""
    chosen = settings()
    configure(chosen)

    def traced(given: Settings, bootstrap_servers: str, pool: Pool) -> Adapters:
        return record(adapters(given, bootstrap_servers, pool), path)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(chosen, endpoints(chosen), choose=traced))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
