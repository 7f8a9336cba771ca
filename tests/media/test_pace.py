"""How fast upkeep goes, on a clock that moves only while it waits or works."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import Invalid, Unavailable
from scrubjay.base.units import GIB, KIB, MIB
from scrubjay.media.pace import LOOK_AGAIN_S, Pace, Rates, Traffic, either

RATES = Rates(idle_bytes_per_s=100 * MIB, busy_bytes_per_s=10 * MIB)
HOUR_S = 3600.0


@dataclass
class Watch:
    """A clock that a wait moves on; `wait` is the Event of a daemon that may be told to stop."""

    now: int = 0
    stopped: bool = False
    waits: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        """Return the moment."""
        return self.now

    def monotonic_ns(self) -> int:
        """Return the moment."""
        return self.now

    def wait(self, seconds: float) -> bool:
        """Let time pass, a little more than was asked for, as sleeping does."""
        self.waits.append(seconds)
        self.now += int(seconds * 1e9) + 1000
        return self.stopped


def _pace(watch: Watch, *, busy: bool, rates: Rates = RATES) -> Pace:
    return Pace(watch, rates=rates, busy=lambda _: busy, wait=watch.wait)


@pytest.mark.parametrize(("busy", "rate"), [(False, 100 * MIB), (True, 10 * MIB)])
def test_pace_over_a_long_run_keeps_its_rate(*, busy: bool, rate: int) -> None:
    """So many bytes take the time that the rate says, neither less nor much more."""
    watch = Watch()
    pace = _pace(watch, busy=busy)
    for _ in range(500):
        pace(MIB)
    spent_s = watch.now / 1e9
    assert 500 * MIB / rate <= spent_s < 500 * MIB / rate * 1.01


@given(
    sizes=st.lists(st.integers(1, 4 * MIB), min_size=1, max_size=60),
    pauses=st.lists(st.integers(0, 10**10), min_size=60, max_size=60),
)
def test_pace_after_any_pauses_makes_up_for_none(sizes: list[int], pauses: list[int]) -> None:
    """However long nothing was done, no more than one piece passes without waiting for it."""
    watch = Watch()
    pace = _pace(watch, busy=False)
    for size, pause in zip(sizes, pauses, strict=False):
        watch.now += pause
        pace(size)
        before = watch.now
        pace(size)
        assert watch.now - before >= int(size / RATES.idle_bytes_per_s * 1e9) - 1000


def test_pace_when_tenants_stop_goes_on_soon() -> None:
    """A long wait is cut into turns: who waits for a busy disk sees that it is idle now."""
    watch = Watch()
    rates = Rates(idle_bytes_per_s=1024 * MIB, busy_bytes_per_s=1)
    looks: list[int] = []

    def busy(_: int) -> bool:
        looks.append(watch.now)
        return len(looks) < 5

    Pace(watch, rates=rates, busy=busy, wait=watch.wait)(MIB)
    assert max(watch.waits) <= LOOK_AGAIN_S
    assert watch.now / 1e9 < 5 * LOOK_AGAIN_S, "not the twelve days that the busy rate takes"


def test_pace_tells_the_load_of_its_own_bytes_once() -> None:
    """What was let pass is reported at the next look, every byte once."""
    watch = Watch()
    own: list[int] = []

    def busy(size_bytes: int) -> bool:
        own.append(size_bytes)
        return False

    pace = Pace(watch, rates=RATES, busy=busy, wait=watch.wait)
    for size in (MIB, 4096, MIB):
        pace(size)
    assert sum(own) == MIB + 4096
    pace(1)
    assert sum(own) == 2 * MIB + 4096


def test_pace_when_told_to_stop_raises_at_once() -> None:
    """A daemon that ends waits for no erasing; what was begun is done again later."""
    watch = Watch(stopped=True)
    pace = _pace(watch, busy=True)
    with pytest.raises(Unavailable, match="told to stop"):
        pace(GIB)
    assert len(watch.waits) == 1


@pytest.mark.parametrize(("idle", "busy"), [(0, 0), (1, 2), (1, 0), (-1, -1)])
def test_rates_at_which_nothing_would_be_done_are_refused(idle: int, busy: int) -> None:
    """A rate of nothing would break a promise in silence."""
    with pytest.raises(Invalid, match="0 < busy <= idle"):
        Rates(idle_bytes_per_s=idle, busy_bytes_per_s=busy)


def test_rates_for_a_deadline_are_raised_as_far_as_needed() -> None:
    """What has to be done in time is, however busy; where there is time, nothing changes."""
    assert Rates.within(20 * GIB, 24 * HOUR_S, wanted=RATES) == RATES
    hurried = Rates.within(20 * GIB, 600, wanted=RATES)
    assert hurried.busy_bytes_per_s * 600 >= 20 * GIB
    assert hurried.idle_bytes_per_s == RATES.idle_bytes_per_s
    late = Rates.within(20 * GIB, -5, wanted=RATES)
    assert late.busy_bytes_per_s == late.idle_bytes_per_s == 20 * GIB


def _stat(path: Path, read_bytes: int, written_bytes: int) -> None:
    fields = [7, 0, read_bytes // 512, 3, 9, 0, written_bytes // 512, 4, 0, 5, 6]
    path.write_text(" ".join(map(str, fields)) + "\n")


@pytest.mark.parametrize(
    ("read", "written", "own", "expected"),
    [
        (0, 0, 0, False),
        (0, 100 * MIB, 100 * MIB, False),
        (50 * MIB, 50 * MIB, 100 * MIB, False),
        (200 * KIB, 0, 0, False),
        (MIB, 0, 0, True),
        (0, MIB, 0, True),
        (60 * MIB, 60 * MIB, 100 * MIB, True),
        (0, 50 * MIB, 100 * MIB, False),
    ],
)
def test_traffic_of_others_is_what_the_device_counts_less_our_own(
    read: int, written: int, own: int, tmp_path: Path, *, expected: bool
) -> None:
    """A device that moves nothing but our own bytes is idle, however fast we are."""
    watch = Watch()
    _stat(tmp_path / "stat", 10 * GIB, 20 * GIB)
    traffic = Traffic(tmp_path / "stat", watch)
    assert traffic(0), "before the first second is over nobody knows"
    _stat(tmp_path / "stat", 10 * GIB + read, 20 * GIB + written)
    watch.now += 1_000_000_000
    assert traffic(own) is expected


def test_traffic_between_looks_keeps_its_verdict_and_all_own_bytes(tmp_path: Path) -> None:
    """Looks in quick succession read no file, and what they report is not lost."""
    watch = Watch()
    _stat(tmp_path / "stat", 0, 0)
    traffic = Traffic(tmp_path / "stat", watch)
    _stat(tmp_path / "stat", 0, 100 * MIB)
    for _ in range(99):
        watch.now += 500_000
        assert traffic(MIB), "as at the beginning"
    watch.now += 1_000_000_000
    assert not traffic(MIB)


@pytest.mark.parametrize("text", [None, "", "one two three", "1 2 3"])
def test_traffic_on_a_device_that_cannot_be_told_counts_as_busy(
    text: str | None, tmp_path: Path
) -> None:
    """Who does not know whether he disturbs goes slowly."""
    if text is not None:
        (tmp_path / "stat").write_text(text)
    watch = Watch()
    traffic = Traffic(tmp_path / "stat", watch)
    for _ in range(3):
        watch.now += 1_000_000_000
        assert traffic(0)


def test_traffic_beneath_a_file_watches_the_device_of_its_file_system(tmp_path: Path) -> None:
    """The file that is watched is that of the device beneath, by its number."""
    (tmp_path / "pool").touch()
    device = (tmp_path / "pool").stat().st_dev
    folder = tmp_path / f"sys/dev/block/{device >> 8 & 0xFFF}:{device & 0xFF}"
    folder.mkdir(parents=True)
    _stat(folder / "stat", 0, 0)
    watch = Watch()
    traffic = Traffic.beneath(tmp_path / "pool", watch, root=tmp_path)
    watch.now += 1_000_000_000
    assert not traffic(0), "it was found, and is idle"


def test_either_sign_makes_busy_and_each_is_told_of_all_bytes() -> None:
    """One that is not asked would count our bytes as those of others."""
    told: list[int] = []

    def quiet(own_bytes: int) -> bool:
        told.append(own_bytes)
        return False

    assert not either(quiet, quiet)(5)
    assert either(lambda _: True, quiet)(7)
    assert either(quiet, lambda _: True)(9)
    assert told == [5, 5, 7, 9]
