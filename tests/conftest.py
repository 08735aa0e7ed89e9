"""What every test may use: the repository's root and, where it lies beside the clone, the shared labels."""

from pathlib import Path

import hypothesis
import pytest

# A busy machine is no counterexample.
hypothesis.settings.register_profile("headgate", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("headgate")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The labels folder; tests that need it skip on a user's clone, which has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared labels do not lie beside this clone")
    return folder
