"""The table tells what was done, and only what was done."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from demo.report import Report, Unproven, number, prove, size
from demo.slots import changed, fronts
from scrubjay.base.units import SEGMENT_BYTES, SLOTS_OFFSET_BYTES


def test_report_of_failed_step_has_no_line_for_it() -> None:
    """I8: a step that was not proven never shows up as done."""
    console = Console(file=io.StringIO(), width=80)
    report = Report(console, step_count=2)
    with report.step("write [it]") as step:
        step.proven("all of it")
    with pytest.raises(Unproven), report.step("read it") as step:
        prove(step is None, "a step, expected none")
    console.print(report.table())
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert [each.title for each in report.steps] == ["write [it]"]
    assert "write [it]" in shown
    assert "all of it" in shown
    assert "read it" not in shown


def test_numbers_and_sizes_read_as_people_write_them() -> None:
    """One file, 1,904 files; MiB below a GiB."""
    assert [number(1, "file"), number(1904, "file")] == ["1 file", "1,904 files"]
    assert [size(5 << 20), size(3 << 29)] == ["5 MiB", "1.5 GiB"]


def test_slots_with_another_front_have_changed(tmp_path: Path) -> None:
    """A slot that somebody wrote into is told apart from its neighbours."""
    pool = tmp_path / "pool"
    with pool.open("wb") as file:
        file.truncate(SLOTS_OFFSET_BYTES + 3 * SEGMENT_BYTES)
        before = fronts(pool)
        file.seek(SLOTS_OFFSET_BYTES + SEGMENT_BYTES)
        file.write(b"x")
        file.flush()
        assert changed(before, fronts(pool)) == {1}
    assert len(before) == 3
