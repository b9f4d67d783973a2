"""The deployment's files as data, and the names that the product gives them to use."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import promql_parser
from ruamel.yaml import YAML

from service.settings import Settings
from service.telemetry import Telemetry

ROOT = Path(__file__).parents[2]
DASHBOARD = "deploy/grafana/dashboards/turnstile.json"


def read_yaml(path: str) -> Any:  # noqa: ANN401 - any document
    """Read a file of the project that holds one document."""
    return YAML(typ="safe").load((ROOT / path).read_text("utf-8"))


def read_json(path: str) -> Any:  # noqa: ANN401 - any document
    """Read a file of the project."""
    return json.loads((ROOT / path).read_text("utf-8"))


def compose() -> dict[str, Any]:
    """Return the compose file's services."""
    services: dict[str, Any] = read_yaml("docker-compose.yml")["services"]
    return services


def rules() -> list[dict[str, Any]]:
    """Return every alert."""
    return [rule for group in read_yaml("deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Return every expression of the alerts and the dashboard."""
    panels = read_json(DASHBOARD)["panels"]
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that an expression names; raises ValueError where it cannot be parsed."""
    found: set[str] = set()

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name is not None:
            found.add(node.name)

    promql_parser.walk(promql_parser.parse(expression), look)
    return found


def exported() -> set[str]:
    """Return every series name that a scrape may hold, and the one that Prometheus makes of the scrape itself."""
    names = {"up"}
    for family in Telemetry().registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def settings_of(names: Iterable[str]) -> set[str]:
    """Return the fields of Settings that these environment variables set; raises KeyError for one that none reads."""
    ours = {name.removeprefix("TURNSTILE_").lower() for name in names if name.startswith("TURNSTILE_")}
    if unknown := ours - set(Settings.model_fields):
        raise KeyError(unknown)
    return ours


def seconds(duration: str) -> float:
    """Return a duration as compose and Prometheus write it."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h)", duration)
    assert found, duration
    return int(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[found[2]]
