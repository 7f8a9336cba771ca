"""Whether tenants are at work, as made-up processes tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from scrubjay.control.activity import Activity

STEP_NS = 200_000_000


@dataclass
class Watch:
    """A clock that is moved by hand."""

    now: int = 10_000_000_000

    def now_ns(self) -> int:
        """Return the moment."""
        return self.now

    def monotonic_ns(self) -> int:
        """Return the moment."""
        return self.now


class Machine:
    """Locks of exporters, and what /proc says of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locks = root / "run"
        self.locks.mkdir()
        self.clock = Watch()
        self.activity = Activity(self.locks, self.clock, root=root)

    def exporter(self, name: str, pid: int, ticks: int) -> None:
        """Let an exporter have used so much."""
        (self.locks / f"{name}.lock").write_text(f'{{"pid":{pid},"epoch":1,"digest":""}}')
        stat = self.root / f"proc/{pid}/stat"
        stat.parent.mkdir(parents=True, exist_ok=True)
        rest = " ".join(["S", *["1"] * 10, str(ticks - 1), "1", *["7"] * 30])
        stat.write_text(f"{pid} (scrubjay (x) 9) {rest}\n")

    def looks(self, steps: int = 1) -> bool:
        """Look again after a while."""
        for _ in range(steps - 1):
            self.clock.now += STEP_NS
            self.activity(0)
        self.clock.now += STEP_NS
        return self.activity(0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with two exporters that do nothing."""
    made = Machine(tmp_path)
    made.exporter("a", 41, 1000)
    made.exporter("b", 42, 7)
    return made


def test_exporters_that_rest_are_idle_however_much_they_did_before(machine: Machine) -> None:
    """The first look has nothing to compare with."""
    assert not machine.looks()
    assert not machine.looks(20)


def test_exporter_that_works_is_busy_for_a_second(machine: Machine) -> None:
    """Whoever does little shows now and then; that is enough."""
    machine.looks(6)
    machine.exporter("b", 42, 8)
    assert machine.looks()
    assert machine.looks(3)
    assert not machine.looks(10)


def test_exporter_that_came_or_went_is_no_work(machine: Machine) -> None:
    """What it used before it was seen says nothing about now."""
    machine.looks(6)
    machine.exporter("c", 43, 5000)
    (machine.root / "proc/41/stat").unlink()
    assert not machine.looks(10)
    machine.exporter("c", 43, 5001)
    assert machine.looks()


@pytest.mark.parametrize("text", ["", "{}", "[]", "\xff", '{"pid":"x"}'])
def test_lock_that_says_nothing_is_passed_over(machine: Machine, text: str) -> None:
    """A torn lock file stops no upkeep."""
    (machine.locks / "d.lock").write_text(text, encoding="latin-1")
    (machine.root / "proc/42/stat").write_text("garbage")
    assert not machine.looks(10)
    machine.exporter("a", 41, 1001)
    assert machine.looks()


def test_folder_that_is_not_there_is_idle(tmp_path: Path) -> None:
    """Nothing was ever attached."""
    assert not Activity(tmp_path / "none", Watch())(0)
