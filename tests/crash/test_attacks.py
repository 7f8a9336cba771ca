"""The attacks of the design's section 8 that reach the engine, each shown to be answered.

A test plays an attack twice: once as the engine is, and once with its remedy taken out,
when the very same play has to fail. docs/format/attacks.md has the whole list.
"""

# ruff: noqa: SLF001 - remedies are taken out where they are

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import SegmentId, Slot
from scrubjay.base.units import SECTOR_BYTES, STRIPE_BYTES, STRIPES
from scrubjay.engine.cleaning import Cleaner
from scrubjay.engine.disk import Disk
from scrubjay.engine.lessor import Grant
from scrubjay.engine.paged import PagedMap
from scrubjay.engine.recovery import _Replay
from scrubjay.engine.scan import Scanner
from scrubjay.engine.usage import Usage
from scrubjay.keys.aead import child
from scrubjay.media.simulated import Fault, IoKind
from tests.crash.power import cuts, outcomes, record, survive
from tests.crash.test_power import LBAS, checkpoints, cleaning_again, pages, segments
from tests.engine.fsck import fsck
from tests.engine.rig import Machine, content, key_of, open_disk

Play = Callable[[], None]
Failure = (AssertionError, Corrupt)


def _fails(play: Play) -> None:
    """Play what has to fail."""
    with pytest.raises(Failure):
        play()


# --- Line 3: a trim in a segment that is reused, and the older version returns ----------


def _trim_in_a_segment_of_its_own() -> None:
    machine = Machine()
    machine.write((0, 8), (20, 1))
    machine.checkpoint()
    slices = machine.disk.checkpoint()
    machine.write((21, 1))
    for number, _ in enumerate(slices):
        if number == 1:  # the leaf is written, and does not know of what follows
            machine.close_segment()
            machine.drop(0, 8)
            machine.close_segment()
            machine.feed()
    machine.disk.sync()
    machine.disk.commit_checkpoint()
    machine.kill()
    machine.verify()


def test_trim_in_a_segment_without_live_sectors_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A segment is freed only by a checkpoint that begins behind it (section 8, line 3)."""
    _trim_in_a_segment_of_its_own()

    def freeable(self: Cleaner, evacuated: frozenset[int], *, before: int) -> set[int]:
        return real(self, evacuated, before=1 << 36)

    real = Cleaner.freeable
    monkeypatch.setattr(Cleaner, "freeable", freeable)
    _fails(_trim_in_a_segment_of_its_own)


# --- Line 5: stripes, the grain of forgetting in a live volume --------------------------


def test_stripe_that_was_forgotten_takes_no_other_with_it() -> None:
    """Of a segment whose seed became a table, the surviving stripes open (section 8, line 5)."""
    machine = Machine(lbas=256)
    machine.write((0, 200))
    machine.flush()
    entries = [machine.disk._map[lba] for lba in range(200)]
    lost = {lba for lba, e in enumerate(entries) if (e >> 8 & 0xFFFFF) * 16 // STRIPE_BYTES == 1}
    assert 20 < len(lost) < 180
    seed = key_of(1)
    survivors = tuple((i, child(seed, i)) for i in range(STRIPES + 1) if i != 1)
    slot = Slot(machine.keeper.places[1])
    machine.disk._segments.drop(1)
    machine.disk._segments.add([Grant(SegmentId(1), slot, b"", survivors)])
    for lba in range(200):
        if lba in lost:
            with pytest.raises(Corrupt, match="stripe 1: has no slot or no key"):
                machine.read(lba, 1)
        else:
            machine.read(lba, 1)


# --- Line 8: replay that trusts a header but not its units; a rolled-back medium --------


def _unit_that_did_not_arrive() -> None:
    machine = Machine()
    machine.write((0, 8))
    machine.flush()
    machine.write((0, 8))
    last = machine.medium.trace[-1]
    machine.medium.plant(last.offset_bytes + 8192, bytes(512))
    machine.kill()
    assert machine.image()[:8] == [content(lba, 1) for lba in range(8)]


def test_record_whose_unit_is_torn_counts_as_a_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Replay opens each unit before it maps it (section 8, line 8; I5)."""
    _unit_that_did_not_arrive()
    monkeypatch.setattr(Scanner, "opens", lambda *_: True)
    _fails(_unit_that_did_not_arrive)


def _stale_block(*, check: bool) -> None:
    """Commit a checkpoint, then have the medium forget one write that it had synced."""
    machine = Machine()
    machine.write((0, 8))
    slices = machine.disk.checkpoint()
    before, offset = machine.medium, 0
    for number, _ in enumerate(slices):
        if number == 1:
            offset = len(before.trace)
            machine.write((0, 8))
    machine.disk.sync()
    machine.disk.commit_checkpoint()
    lost = before.trace[offset]
    machine.medium.plant(lost.offset_bytes, bytes(len(lost.data)))
    if not check:
        machine.keeper.checkpoint = replace(machine.keeper.checkpoint, flushed=0)
    machine.kill()
    machine.verify()


def test_medium_that_lost_what_it_had_synced_is_refused() -> None:
    """A log that ends before what the pool knows is no torn tail (section 8, line 8; I4)."""
    with pytest.raises(Corrupt, match="log ends at record"):
        _stale_block(check=True)
    with pytest.raises(AssertionError):
        _stale_block(check=False)


@pytest.mark.parametrize("back", [1, 2, 3])
def test_medium_of_an_earlier_day_is_refused(back: int) -> None:
    """A medium that is older than the pool is refused, never believed (section 8, line 8)."""
    machine = Machine()
    earlier = []
    for round_ in range(4):
        machine.write((round_, 8))
        machine.detach()
        earlier.append(machine.medium.crash(lambda n: n - 1 if n == 6 else 0))
    with pytest.raises(Corrupt):
        open_disk(earlier[-1 - back], machine.keeper.copy())
    open_disk(earlier[-1], machine.keeper.copy())


def _record_behind_a_lost_one() -> None:
    machine = Machine()
    machine.write((0, 4))
    machine.flush()
    machine.write((0, 4))
    lost = machine.medium.trace[-1]
    machine.close_segment()
    machine.write((2, 4))
    machine.medium.plant(lost.offset_bytes, bytes(len(lost.data)))
    machine.kill()
    machine.matching(machine.image(), least=1, most=3, base={})


def test_record_behind_one_that_is_lost_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is a chain: the volume is as it was at one moment (section 8, line 8; I5)."""
    _record_behind_a_lost_one()
    monkeypatch.setattr(
        _Replay,
        "_continues",
        lambda self, header: self._ours(header) and header.sequence > self.sequence,
    )
    _fails(_record_behind_a_lost_one)


# --- Line 9: a second exporter of one volume ------------------------------------------------


def _twin_that_goes_on_writing() -> None:
    machine = Machine()
    machine.write((0, 8))
    machine.checkpoint()
    machine.disk._spares.give_back(keep=0)  # else the next attachment finds something to tidy
    for segment in list(machine.keeper.places)[1:]:
        machine.keeper.free.append(machine.keeper.places.pop(segment))
    twin = machine.disk
    machine.kill()
    machine.write((0, 4))
    twin.begin(1 << 16)
    for lba in range(8):
        twin.write(lba, 1, memoryview(b"t" * SECTOR_BYTES))
    twin.commit()
    machine.flush()
    machine.kill()
    machine.verify()


def test_twin_that_goes_on_writing_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two records with one predecessor, the later attachment's counts (section 8, line 9)."""
    _twin_that_goes_on_writing()
    monkeypatch.setattr(_Replay, "_taken_up", lambda *_: 1 << 63)
    _fails(_twin_that_goes_on_writing)


def test_attachment_that_was_replaced_can_free_nothing() -> None:
    """A checkpoint of an older attach epoch is refused by the pool (section 8, line 9)."""
    machine = Machine()
    machine.write((0, 8))
    old = machine.disk
    machine.kill()
    places = dict(machine.keeper.places)
    for _ in old.checkpoint():
        pass
    machine.disk.sync()
    with pytest.raises(Exception, match="epoch: 1, expected 2"):
        old.commit_checkpoint()
    assert machine.keeper.places == places
    machine.verify()


def test_record_of_an_attachment_to_come_is_not_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Replay takes records of earlier attach epochs alone (section 8, line 9)."""
    machine = Machine()
    machine.write((0, 8))
    machine.flush()
    keeper = machine.keeper.copy()
    keeper.epoch = 0  # the attachment that wrote them has the epoch of this one
    disk = open_disk(machine.medium, keeper)
    out = memoryview(bytearray(8 * SECTOR_BYTES))
    disk.read_into(0, 8, out)
    assert not any(out)


# --- Line 16: 64 MiB of map, whatever the volume --------------------------------------------


def test_map_in_memory_is_bounded_whatever_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come and go with what is touched (section 8, line 16)."""

    def play() -> None:
        machine = Machine(lbas=512 * 80, map_limit_pages=8)
        for leaf in range(80):
            machine.write((leaf * 512, 1))
            if leaf % 4 == 3:
                machine.checkpoint()
        for leaf in range(80):
            machine.read(leaf * 512, 1)
        assert machine.disk.counters.map_pages <= 9

    play()
    monkeypatch.setattr(PagedMap, "evict", lambda _self: None)
    _fails(play)


# --- The engine's own rules, which the power cuts and the check have to notice -----------------


def _cleaning_beside_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sectors move between the pages of a checkpoint."""
    monkeypatch.setattr(Disk, "clean", lambda self: self._cleaner.step())


def _no_revival(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead bit that is newer than the replayed write stays."""
    monkeypatch.setattr(Usage, "revive", lambda *_: None)


def _no_recount(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay believes the counts that the checkpoint happened to have."""
    monkeypatch.setattr(Usage, "set_written", lambda *_: None)


def _no_relocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map pages in a victim are left behind."""
    monkeypatch.setattr(PagedMap, "relocate", lambda *_: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("taken_out", "workload"),
    [
        (_cleaning_beside_checkpoints, cleaning_again),
        (_no_revival, checkpoints),
        (_no_recount, segments),
        (_no_relocation, pages),
    ],
)
def test_power_cuts_with_a_rule_taken_out_notice(
    taken_out: Callable[[pytest.MonkeyPatch], None],
    workload: Callable[[Machine], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The crash tests can fail: each of these rules is needed (I4, I5)."""
    taken_out(monkeypatch)

    def play() -> None:
        run = record(workload, lbas=LBAS.get(workload, 96))
        fsck(run.machine)
        for cut in cuts(run):
            random = Random(cut.at)
            for left in outcomes(cut.medium, random, count=2):
                survive(run, cut, left, random)

    _fails(play)


def test_checkpoint_committed_before_its_sync_is_noticed() -> None:
    """The pool must not name what a power cut can take away (I4)."""
    machine = Machine()
    machine.write((0, 8))
    for _ in machine.disk.checkpoint():
        pass
    machine.disk.commit_checkpoint()
    with pytest.raises(Corrupt):
        machine.crash(lambda _n: 0)


def test_failed_sync_loses_nothing_that_was_durable() -> None:
    """After a failed sync nothing is committed; attached anew, the volume is whole (I4)."""
    machine = Machine()
    machine.write((0, 8))
    machine.flush()
    machine.write((4, 8))
    for _ in machine.disk.checkpoint():
        pass
    machine.medium.inject(Fault.ERROR, kind=IoKind.SYNC)
    with pytest.raises(OSError, match="simulated"):
        machine.disk.sync()
    machine.crash(lambda n: 0)
    machine.verify()
    assert fsck(machine).leaked == 0
