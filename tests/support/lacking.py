"""What a machine may lack for a test: it is skipped then, with the reason. In CI everything must run, and it fails."""

import os
from typing import NoReturn

import pytest


def skip_for(reason: str) -> NoReturn:
    """Skips the test; in CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
