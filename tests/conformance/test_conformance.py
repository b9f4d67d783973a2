"""Both languages' conformance suites, from published packages: how many cases agree is printed, and pinned.

They need npm, Node and cargo, and the registries once; without them the tests fail, which is why they are not among
the pure ones.
"""

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datalogic_py import DataLogicError, Engine

from service.predicates.jsonlogic import CONFIG
from tests.conformance.cel_suite import EXCLUDED, agrees, cases, excluded
from tests.conformance.packages import Package, cargo, npm

pytestmark = pytest.mark.stack

CEL_SPEC = Package(
    "@bufbuild/cel-spec", "0.6.1", "37e4b203f5ca5192db73a6095d129fb5e58a262a89309ba32e1840e7a80270e1", npm
)
# Another implementation's copy of the suite of jsonlogic.com.
JSONLOGIC = Package("jsonlogic-rs", "0.5.0", "884e3d09da1a850cc4379c62f7127246688b5275ad7690aa9ceef746815297ea", cargo)
CEL_AGREE, CEL_EXCLUDED = 1041, 1302
CEL_DIFFER = ["fields/qualified_identifier_resolution/map_value_repeat_key_heterogeneous"]
JSONLOGIC_AGREE = 275
PRINT = "const { tests } = await import(process.argv[1]); console.log(JSON.stringify(tests))"


def said(what: str, agree: int, total: int) -> str:
    """Say a pass rate."""
    return f"{what} conformance: {100 * agree / total:.2f} % ({agree} of {total})"


def test_cel_conforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A drop is a fault of the engine or of how it is set up; a rise asks for a higher pin."""
    module = tmp_path / "conformance.mjs"
    module.write_bytes(CEL_SPEC.read("package/dist/esm/testdata/conformance.js"))
    printed = subprocess.run(
        ["node", "--input-type=module", "-e", PRINT, str(module)], capture_output=True, check=True, timeout=60
    )
    found, left_out = list[tuple[str, bool]](), Counter[str]()
    sections = set[str]()
    for case in cases(json.loads(printed.stdout)):
        sections.add(case.section)
        reason = excluded(case)
        if reason is None:
            found.append((case.name, agrees(case)))
        else:
            left_out[reason] += 1
    agree = sum(held for _, held in found)
    with capsys.disabled():
        print(f"\n{said('CEL', agree, len(found))}, {sum(left_out.values())} cases left out:")  # noqa: T201
        print("\n".join(f"  {count:4}  {reason}" for reason, count in left_out.most_common()))  # noqa: T201
    assert CEL_DIFFER == [name for name, held in found if not held]
    assert (CEL_AGREE, CEL_EXCLUDED) == (agree, sum(left_out.values()))
    assert set() == EXCLUDED.keys() - sections, "a section is left out that the suite does not have"


def test_jsonlogic_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    """Rules as the engine is set up, but for the form that guards are kept to; comments in the suite are texts."""
    engine = Engine(families=[], config=CONFIG)

    def result(rule: Any, data: Any) -> Any:  # noqa: ANN401 - any JSON
        try:
            return engine.eval(json.dumps(rule), json.dumps(data))
        except DataLogicError as error:
            return error

    suite = [
        case
        for case in json.loads(JSONLOGIC.read("jsonlogic-rs-0.5.0/tests/data/tests.json"))
        if not isinstance(case, str)
    ]
    differ = [(rule, data, expected, got) for rule, data, expected in suite if (got := result(rule, data)) != expected]
    with capsys.disabled():
        print(f"\n{said('JSONLogic', len(suite) - len(differ), len(suite))}")  # noqa: T201
    assert [] == differ
    assert JSONLOGIC_AGREE == len(suite)
