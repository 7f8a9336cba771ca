"""The page of attacks claims no test that there is not (I8)."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_attacks_page_names_only_tests_that_exist() -> None:
    """Every test that docs/format/attacks.md names is defined, and all 18 lines are there."""
    page = (ROOT / "docs/format/attacks.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    defined = set(re.findall(r"^ *def (test_\w+)\(", sources, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 40
    assert not named - defined
    assert [int(n) for n in re.findall(r"^\*\*(\d+)\. ", page, re.MULTILINE)] == list(range(1, 19))
