"""The study of destroying: it destroys what it says, and takes everything away again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import forgetting
from bench.__main__ import QUICK
from scrubjay.base.units import GIB, MIB


@pytest.mark.slow
def test_study_of_destroying_reports_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small, and with the tools that it compares with; nothing stays on the disk."""
    monkeypatch.setattr(forgetting, "CROWD", 20)
    monkeypatch.setattr(forgetting, "OVERWRITTEN_BYTES", 8 * MIB)
    reports = forgetting.destroying(tmp_path, replace(QUICK, turn_count=1, mapped_bytes=GIB))
    assert len(reports) == 5 + 2 * len(forgetting.OVERWRITING)
    assert all(each.value > 0 for each in reports)
    assert {each.target for each in reports} == {None, 50, 2}
    assert list(tmp_path.iterdir()) == []
