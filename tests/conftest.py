"""What every test shares: seeds that are printed on failure, and skips that say what is missing."""

import os
import secrets
import shutil

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: how long an example took says nothing about the code.
settings.register_profile(
    "scrubjay",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("scrubjay")

# mke2fs and e2fsck live where only root's PATH looks.
os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --seed, which repeats a failed test that drew from the `seed` fixture."""
    parser.addoption("--seed", type=int, help="what the seed fixture returns, to repeat a failure")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked real(*programs) where one of them is missing."""
    for mark in item.iter_markers("real"):
        missing = [program for program in mark.args if shutil.which(program) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A new seed for every run, shown beside a failure so that --seed repeats it."""
    chosen = request.config.getoption("--seed")
    value = secrets.randbits(32) if chosen is None else int(chosen)
    request.node.add_report_section("setup", "seed", f"repeat with --seed {value}")
    return value
