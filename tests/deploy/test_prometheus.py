"""Prometheus's configuration and alerts: names that exist, alerts that ring and keep quiet, runbooks to follow."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import ROOT, compose, exported, expressions, metrics_of, read_yaml, rules, seconds

FOLDER = ROOT / "deploy/prometheus"


def cases() -> dict[str, list[tuple[float, Any]]]:
    """Return of each alert in alerts.test.yml when it was looked at, and what was expected."""
    found = defaultdict(list)
    for test in read_yaml("deploy/prometheus/alerts.test.yml")["tests"]:
        for case in test["alert_rule_test"]:
            found[case["alertname"]].append((seconds(case["eval_time"]), case["exp_alerts"]))
    return found


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_that_exist(expression: str) -> None:
    """An alert on a metric nobody exports never rings."""
    named = metrics_of(expression)
    assert named
    assert named <= exported()


def test_a_metric_that_nobody_exports_is_seen() -> None:
    """The check above can fail, however deep the name is."""
    assert {"turnstile_claims_lost"} == metrics_of("sum(increase(turnstile_claims_lost[1m])) > 2") - exported()


def test_the_operators_table_is_what_alerts() -> None:
    """Each metric that the manual says to watch has a rule, but the one that is a producer's affair."""
    manual = (ROOT / "docs/operations.md").read_text("utf-8")
    table = manual[manual.index("## Metrics to watch") : manual.index("## When an alert rings")]
    watched = set(re.findall(r"`((?:turnstile|workflow|outbox|sla)_[a-z_]+)`", table))
    ruled = {name for rule in rules() for name in metrics_of(rule["expr"])}
    assert {"turnstile_commands_forwarded_total"} == watched - ruled
    assert {"up"} == ruled - watched


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Whoever is woken finds the heading that the alert names."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert anchor in anchors(page)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_seen_to_ring_and_to_keep_quiet(rule: dict[str, Any]) -> None:
    """Its unit tests expect it at some time with its very labels, at another not, and late enough to be due."""
    ringing = [(at, alert) for at, alerts in cases()[rule["alert"]] for alert in alerts]
    assert [] in [alerts for _, alerts in cases()[rule["alert"]]]
    assert ringing
    for at, alert in ringing:
        assert seconds(rule.get("for", "0s")) <= at
        assert rule["labels"]["severity"] == alert["exp_labels"]["severity"]
        assert rule["annotations"]["runbook"] == alert["exp_annotations"]["runbook"]


def test_every_unit_test_is_of_an_alert_that_is_there() -> None:
    """A renamed alert's tests would expect nothing and find nothing."""
    assert {rule["alert"] for rule in rules()} == set(cases())


def test_the_configuration_finds_rules_and_workers() -> None:
    """It loads the alerts, asks the compose file's workers by name, and takes others from files."""
    configuration = read_yaml("deploy/prometheus/prometheus.yml")
    (job,) = configuration["scrape_configs"]
    (by_name,), (by_file,) = job["dns_sd_configs"], job["file_sd_configs"]
    assert ["alerts.yml"] == configuration["rule_files"]
    assert f'up{{job="{job["job_name"]}"}} == 0' in [rule["expr"] for rule in rules()]
    assert set(by_name["names"]) <= set(compose())
    assert compose()["worker"]["ports"] == [f"127.0.0.1::{by_name['port']}"]
    assert ["targets/*.yml"] == by_file["files"]


def test_promtool_agrees(tmp_path: Path) -> None:
    """Where Prometheus's own tool is installed it finds no fault, runs the alerts' tests, and sees a rule changed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return  # the tests above have looked at what can be seen without it
    folder = shutil.copytree(FOLDER, tmp_path / "prometheus")

    def passes(*words: str) -> bool:
        return 0 == subprocess.run([promtool, *words], cwd=folder, capture_output=True, check=False).returncode

    assert passes("check", "config", "prometheus.yml")
    assert passes("check", "rules", "alerts.yml")
    assert passes("test", "rules", "alerts.test.yml")
    text = (folder / "alerts.yml").read_text("utf-8")
    (folder / "alerts.yml").write_text(
        text.replace("turnstile_partition_halted) > 0", "turnstile_partition_halted) > 1")
    )
    assert not passes("test", "rules", "alerts.test.yml")
