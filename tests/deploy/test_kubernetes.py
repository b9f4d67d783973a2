"""The Kubernetes manifests: valid by Kubernetes' own JSON schemas, and in agreement with each other and the product."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from service.settings import Settings
from tests.deploy.files import ROOT, settings_of

FOLDER = ROOT / "deploy/kubernetes"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
RELEASES = ("1.29", "1.33", "1.37")  # of Kubernetes


def manifest(name: str) -> dict[str, Any]:
    """Read a manifest; each file holds one."""
    read: dict[str, Any] = YAML(typ="safe").load((FOLDER / name).read_text("utf-8"))
    return read


def pod(name: str) -> dict[str, Any]:
    """Return the pod that a manifest makes."""
    spec: dict[str, Any] = manifest(name)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", FILES)
def test_a_manifest_is_valid(name: str, release: str) -> None:
    """Kubernetes' schemas know every field and accept every value."""
    assert release == kubernetes_validate.validate(manifest(name), release, strict=True)


def test_a_misplaced_field_is_seen() -> None:
    """A field that Kubernetes does not know, deep down, is refused, and so is a wrong type."""
    misplaced = deepcopy(manifest("workers.yaml"))
    misplaced["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["pathh"] = "/"
    mistyped = deepcopy(manifest("workers.yaml"))
    mistyped["spec"]["replicas"] = "three"
    for wrong in (misplaced, mistyped):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


def test_the_kustomization_holds_every_manifest() -> None:
    """A file that is not listed would not be applied."""
    kustomization = manifest("kustomization.yaml")
    (image,) = kustomization["images"]
    assert set(FILES) == set(kustomization["resources"])
    assert {image["name"]} == {
        part["image"] for name in ("workers.yaml", "setup.yaml") for part in pod(name)["containers"]
    }


def test_the_labels_meet() -> None:
    """Service and budget select the workers, and not the set-up's pod."""
    workers = manifest("workers.yaml")["spec"]
    labels = workers["template"]["metadata"]["labels"]
    assert labels == workers["selector"]["matchLabels"]
    assert labels == manifest("service.yaml")["spec"]["selector"]
    assert labels == manifest("disruption.yaml")["spec"]["selector"]["matchLabels"]
    assert labels != manifest("setup.yaml")["spec"]["template"]["metadata"]["labels"]


def test_the_pods_set_settings_that_exist() -> None:
    """Each pod has the settings and the secret it needs, under names that the product reads, with values it takes."""
    settings = manifest("settings.yaml")
    for name in ("workers.yaml", "setup.yaml"):
        (container,) = pod(name)["containers"]
        assert [{"configMapRef": {"name": settings["metadata"]["name"]}}] == container["envFrom"]
        given = settings_of({*settings["data"], *(variable["name"] for variable in container["env"])})
        assert {"bootstrap_servers", "database_url"} <= given
    values = {name.removeprefix("TURNSTILE_").lower(): value for name, value in settings["data"].items()}
    assert 1 <= Settings.model_validate(values).replication


def test_the_probes_ask_what_answers() -> None:
    """Start and liveness ask whether the loop turns, readiness whether all is active, on the port that is open."""
    (worker,) = pod("workers.yaml")["containers"]
    probes = {kind: worker[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    (port,) = worker["ports"]
    assert {
        "startup": {"path": "/health/live", "port": port["name"]},
        "liveness": {"path": "/health/live", "port": port["name"]},
        "readiness": {"path": "/health/ready", "port": port["name"]},
    } == probes
    assert Settings.model_fields["http_port"].default == port["containerPort"]
    assert (
        str(port["containerPort"])
        == manifest("workers.yaml")["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]
    )


@pytest.mark.parametrize("name", ["workers.yaml", "setup.yaml"])
def test_a_pod_may_do_little(name: str) -> None:
    """It is not root, writes nowhere but its scratch folder, and gains no rights."""
    (container,) = pod(name)["containers"]
    assert pod(name)["securityContext"]["runAsNonRoot"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert "memory" in container["resources"]["limits"]


def test_a_disruption_leaves_workers() -> None:
    """Neither an emptied node nor a roll-out takes more than one worker at a time."""
    workers = manifest("workers.yaml")["spec"]
    assert 1 == manifest("disruption.yaml")["spec"]["maxUnavailable"] < workers["replicas"]
    assert {"maxSurge": 1, "maxUnavailable": 1} == workers["strategy"]["rollingUpdate"]


def test_every_file_is_looked_at() -> None:
    """The folder is not empty, and holds manifests alone."""
    assert {"settings.yaml", "setup.yaml", "workers.yaml", "service.yaml", "disruption.yaml"} == set(FILES)
    assert {"kustomization.yaml", *FILES} == {path.name for path in Path(FOLDER).iterdir()}
