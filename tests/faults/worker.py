"""A worker's process with wrapped ports: `python -m tests.faults.worker --arm before-apply:kill:20:1:0:`.

Settings and endpoints come from the environment, as for `turnstile serve`; mutants of the protocol are chosen here
too. `choose` is the place for one more wrapper, such as a recorder of protocol traces.
"""

import argparse
import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiokafka.client

from service.adapters import Adapters, adapters
from service.app import serve
from service.cli.surroundings import endpoints, settings
from service.logs import configure
from service.settings import Settings
from service.store.pool import Pool
from tests.faults.mutants import MUTANTS, Scene
from tests.faults.points import Points, read_arms
from tests.faults.ports import wrapped


def main() -> None:
    """Serve until SIGTERM, or until struck."""
    arguments = _arguments()
    chosen = settings()
    configure(chosen)
    if arguments.via:
        take_detour(*map(int, arguments.via.split(":")))
    points = Points(read_arms(arguments.arm), arguments.struck)
    choosing = partial(choose, points=points, mutate=MUTANTS[arguments.mutant])
    asyncio.run(serve(chosen, endpoints(chosen), choose=choosing))


def choose(
    chosen: Settings, bootstrap_servers: str, pool: Pool, *, points: Points, mutate: Callable[[Scene], Adapters]
) -> Adapters:
    """Return the real adapters, mutated if asked for, with every point on their way."""
    scene = Scene(adapters(chosen, bootstrap_servers, pool), chosen, bootstrap_servers, points)
    return wrapped(mutate(scene), points, n_parts=chosen.partitions)


def take_detour(broker_port: int, proxy_port: int) -> None:
    """Reach the broker through a proxy, although it advertises its own port."""
    direct = aiokafka.client.create_conn

    async def create_conn(host: str, port: int, **named: Any) -> Any:  # noqa: ANN401 - as aiokafka's
        return await direct(host, proxy_port if port == broker_port else port, **named)

    aiokafka.client.create_conn = create_conn


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.faults.worker", description=__doc__)
    parser.add_argument("--arm", action="append", default=[], help="point:action:first:times:seconds:part")
    parser.add_argument("--struck", type=Path, help="where strikes are written down")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="none", help="a mutant of the protocol")
    parser.add_argument("--via", help="broker's port:proxy's port")
    return parser.parse_args()


if __name__ == "__main__":
    main()
