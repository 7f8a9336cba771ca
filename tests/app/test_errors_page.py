"""docs/errors.md says what the classes say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from scrubjay.app.errors_page import render

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_errors_page_is_what_the_classes_make_of_it() -> None:
    """Whoever changes a class changes the page: python -m scrubjay.app.errors_page."""
    assert PAGE.read_text(encoding="utf-8") == render()


def test_errors_page_has_every_code_once() -> None:
    """A code stands for one class."""
    codes = Counter(re.findall(r"^\| `([a-z-]+)`", render(), re.MULTILINE))
    assert len(codes) >= 10
    assert set(codes.values()) == {1}
