"""What tests/conftest.py promises to every test."""

import pytest

from tests.project.rules import ROOT


@pytest.fixture(autouse=True)
def _conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = real(*programs): needs them\n")


def test_seed_of_a_failed_test_is_printed(pytester: pytest.Pytester) -> None:
    """A failure shows its seed, and --seed gives the same one again."""
    pytester.makepyfile("def test_draw(seed): assert seed == 7")
    pytester.runpytest("--seed", "9").stdout.fnmatch_lines(["*repeat with --seed 9*"])
    assert pytester.runpytest("--seed", "7").ret == 0


def test_real_without_its_program_skips_and_names_it(pytester: pytest.Pytester) -> None:
    """A test of a real client is skipped where the client is missing, and says which."""
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.real('sh', 'no-such-program')\n"
        "def test_a(): raise SystemError\n"
        "@pytest.mark.real('sh')\n"
        "def test_b(): pass\n"
    )
    result = pytester.runpytest("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*needs no-such-program"])
