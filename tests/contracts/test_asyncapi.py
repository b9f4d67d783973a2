"""Validates the committed AsyncAPI document against the AsyncAPI initiative's own JSON Schema, which npm carries."""

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from contracts.export import FOLDER

PACKAGE = Path(__file__).parent / "asyncapi"
SCHEMA = "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")


@pytest.fixture(scope="module")
def official(request: pytest.FixtureRequest) -> jsonschema.Draft7Validator:
    """Install the locked package once per machine and give its schema's validator."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not on this machine")
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("asyncapi"))
    lock = (PACKAGE / "package-lock.json").read_bytes()
    if not (folder / SCHEMA).exists() or (folder / "package-lock.json").read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGE / name, folder)
        _install(folder)
    return jsonschema.Draft7Validator(json.loads((folder / SCHEMA).read_text(encoding="utf-8")))


def _install(folder: Path) -> None:
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip("the npm registry cannot be reached")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def committed() -> dict[str, Any]:
    """Read the document as it is committed."""
    content: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))
    return content


def test_the_document_is_asyncapi_3(official: jsonschema.Draft7Validator, committed: dict[str, Any]) -> None:
    """The official schema finds nothing to say."""
    assert [error.message for error in official.iter_errors(committed)] == []


@pytest.mark.parametrize("path", ["operations/send_tick/action", "channels/events/bindings/kafka/bindingVersion"])
def test_the_official_schema_sees_a_planted_fault(
    official: jsonschema.Draft7Validator, committed: dict[str, Any], path: str
) -> None:
    """A wrong value is found, so that silence means something."""
    planted = copy.deepcopy(committed)
    *parents, last = path.split("/")
    node = planted
    for parent in parents:
        node = node[parent]
    node[last] = "wrong"
    assert not official.is_valid(planted)
