"""The dashboard and its provisioning: a document that Grafana loads, panels that fit, data sources that are there."""

from copy import deepcopy
from itertools import combinations
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from tests.deploy.files import DASHBOARD, compose, read_json, read_yaml


def check(dashboard: dict[str, Any]) -> None:
    """Raise ValidationError where the dashboard is not as Grafana's model has it."""
    schema = read_json("tests/deploy/dashboard.schema.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(dashboard)


def test_the_dashboard_is_what_grafana_reads() -> None:
    """Fields, types and values are those of Grafana's dashboard model."""
    check(read_json(DASHBOARD))


@pytest.mark.parametrize("field", ["title", "gridPos", "fieldConfig", "targets"])
def test_a_misspelt_field_is_seen(field: str) -> None:
    """Grafana itself would ignore it in silence."""
    dashboard = deepcopy(read_json(DASHBOARD))
    panel = dashboard["panels"][0]
    panel[field.upper()] = panel.pop(field)
    with pytest.raises(jsonschema.ValidationError):
        check(dashboard)


def test_panels_have_their_own_place() -> None:
    """No two panels share an id or a square, and none sticks out of the 24 columns."""

    def squares(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    panels = read_json(DASHBOARD)["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    assert all(x < 24 for panel in panels for x, _ in squares(panel))
    assert not [(a["title"], b["title"]) for a, b in combinations(panels, 2) if squares(a) & squares(b)]


def test_every_panel_asks_a_data_source_that_is_provisioned() -> None:
    """Panels and queries name the data source by the id that provisioning gives it, at the compose file's address."""
    (source,) = read_yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    asked = [part["datasource"] for panel in read_json(DASHBOARD)["panels"] for part in (panel, *panel["targets"])]
    assert {(source["type"], source["uid"])} == {(named["type"], named["uid"]) for named in asked}
    assert "http://prometheus:9090" == source["url"]
    assert "127.0.0.1:9090:9090" in compose()["prometheus"]["ports"]


def test_the_dashboard_is_mounted_where_it_is_looked_for() -> None:
    """The provider's folder is the one the compose file mounts."""
    (provider,) = read_yaml("deploy/grafana/provisioning/dashboards/turnstile.yml")["providers"]
    mounted = dict(volume.split(":")[:2] for volume in compose()["grafana"]["volumes"])
    assert provider["options"]["path"] == mounted["./deploy/grafana/dashboards"]
    assert "/etc/grafana/provisioning" == mounted["./deploy/grafana/provisioning"]
