"""What a test does that needs a real OPA: it fails where continuous integration has none, and is left out elsewhere."""

import os
from pathlib import Path

import pytest

from tests.policies.opa import opa


def needed_opa() -> Path:
    """Return the program."""
    program = opa()
    if program is None and "CI" not in os.environ:
        pytest.skip("there is no OPA, and no Go to build it")
    assert program is not None, "there is no OPA: see what its build said"
    return program
