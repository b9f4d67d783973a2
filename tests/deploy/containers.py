"""The compose file's services as test containers: its images, settings, checks and limits, on ports of their own."""

import gc
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import docker  # type: ignore[import-untyped]  # its stubs are a package of their own
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network

from service.local.ports import choose_port
from tests.deploy.files import ROOT, compose, seconds

FREE = range(32000, 32700)
PASSED = ("entrypoint", "read_only", "cap_drop", "security_opt")
HEALTHY_SECONDS_MAX = 180


def engine_answers() -> bool:
    """Tell whether a Docker engine can be used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the socket that finds nobody, which its maker leaves open
        try:
            with closing(docker.from_env()) as client:
                return bool(client.ping())
        except docker.errors.DockerException:
            return False
        finally:
            gc.collect()


class Composition:
    """A network on which services of the compose file run until the test is over."""

    def __init__(self, network: Network, stack: ExitStack) -> None:
        self._network = network
        self._stack = stack
        self.broker_port = choose_port(FREE, None)

    def start(self, name: str) -> "Running":
        """Start a service as the compose file has it; a broker says the port that it is reached by."""
        service = compose()[name]
        container = DockerContainer(service["image"], env=self._environment(service))
        container.with_network(self._network).with_network_aliases(name)
        for published in service.get("ports", []):
            inner = published.rpartition(":")[2]
            container.with_bind_ports(inner, self.broker_port if name == "kafka" else choose_port(FREE, None))
        for path in service.get("tmpfs", []):
            container.with_tmpfs_mount(path)
        passed = {key: service[key] for key in PASSED if key in service}
        container.with_kwargs(**passed, healthcheck=_healthcheck(service.get("healthcheck", {})))
        return Running(name, self._stack.enter_context(container))

    def _environment(self, service: dict[str, Any]) -> dict[str, str]:
        given = {name: str(value) for name, value in service.get("environment", {}).items()}
        given = {name: value.replace("${POSTGRES_PASSWORD:-turnstile}", "turnstile") for name, value in given.items()}
        if "KAFKA_ADVERTISED_LISTENERS" in given:
            advertised = given["KAFKA_ADVERTISED_LISTENERS"]
            given["KAFKA_ADVERTISED_LISTENERS"] = advertised.replace("localhost:29092", f"localhost:{self.broker_port}")
        return given


class Running:
    """A started service."""

    def __init__(self, name: str, container: DockerContainer) -> None:
        self.name = name
        self._container = container.get_wrapped_container()
        self._ports = container.ports

    @property
    def address(self) -> str:
        """Return where this machine reaches the port that it publishes."""
        (port,) = self._ports.values()
        return f"http://127.0.0.1:{port}"

    def until_healthy(self) -> None:
        """Wait until its own health check passes; raises AssertionError with its log."""
        deadline = time.monotonic() + HEALTHY_SECONDS_MAX
        while self._state()["Health"]["Status"] != "healthy":
            assert time.monotonic() < deadline, f"{self.name} is not healthy:\n{self.log()}"
            assert self._state()["Running"], f"{self.name} has ended:\n{self.log()}"
            time.sleep(0.5)

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        return int(self._container.wait(timeout=HEALTHY_SECONDS_MAX)["StatusCode"])

    def restart(self) -> None:
        """Stop it as `docker compose restart` does, and start it again."""
        self._container.restart(timeout=self._grace())

    def stop(self) -> int:
        """Stop it as `docker compose stop` does and return its exit code."""
        self._container.stop(timeout=self._grace())
        return int(self._state()["ExitCode"])

    def run(self, *words: str) -> str:
        """Return what a command within it prints."""
        code, printed = self._container.exec_run(list(words))
        assert 0 == code, printed
        return str(printed.decode())

    def log(self) -> str:
        """Return what it has printed."""
        return str(self._container.logs().decode())

    def _grace(self) -> int:
        return int(seconds(compose()[self.name]["stop_grace_period"]))

    def _state(self) -> dict[str, Any]:
        self._container.reload()
        state: dict[str, Any] = self._container.attrs["State"]
        return state


@contextmanager
def composition() -> Iterator[Composition]:
    """Build the image, give a network for services, and remove all of them in the end."""
    testcontainers_config.ryuk_disabled = True  # everything is removed below, by nobody else
    tag = compose()["worker"]["image"]
    with DockerImage(path=ROOT, tag=tag, clean_up=False), ExitStack() as stack:
        network = stack.enter_context(Network())
        yield Composition(network, stack)


def _healthcheck(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("disable"):
        return {"test": ["NONE"]}
    times = {key: int(seconds(given[key]) * 1e9) for key in ("interval", "timeout")}
    return {"test": given["test"], "retries": given["retries"]} | times
