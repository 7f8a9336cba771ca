"""The pool: atomic changes, shared commits, rotation, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Barrier, Event, Thread

import pytest

from scrubjay.base.errors import Conflict, Corrupt, Invalid, Unavailable
from scrubjay.base.ids import LineageNo, Slot
from scrubjay.base.ports import Extent
from scrubjay.base.units import MIB
from scrubjay.keys.table import Kind, Node
from scrubjay.media.file import PoolFile
from scrubjay.media.pool import Pool
from scrubjay.media.simulated import Fault, IoKind, SimulatedMedium
from tests.media.rig import ROOT, SINK_ID, Seeded, Sink, Tick, create, reopen, size_of, state_of

NEW_ROOT = Node(Kind.TABLE, b"anew" * 8)


class Dropped(Exception):
    """What a block raises that does not want its change."""


class Gated(SimulatedMedium):
    """A medium whose syncs wait for a word, so that a test says who meets whom."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.opened, self.reached = Event(), Event()
        self.opened.set()
        self.syncs = 0

    def sync(self, extents: Sequence[Extent] | None = None) -> None:
        """Count, say so, wait, sync."""
        self.syncs += 1
        self.reached.set()
        self.opened.wait()
        super().sync(extents)


def test_pool_when_created_holds_its_records_and_opens_again(tmp_path: Path) -> None:
    """The pool describes itself: medium and sink are all that it takes to come back."""
    medium = PoolFile.create(tmp_path / "pool", size_bytes=size_of(4), sparse=True)
    pool = create([medium], records={b"p": b"label", b"t\0\0\0\1": b"tenant"})
    made = (pool.pool_id, pool.sink_id, pool.generation, pool.epoch, pool.root, state_of(pool))
    assert (pool.sink_id, pool.epoch, pool.root) == (SINK_ID, 1, ROOT)
    assert pool.get(b"p") == b"label"
    pool.close()
    again = reopen([PoolFile.open(tmp_path / "pool", hold=True)])
    assert made == (
        again.pool_id,
        again.sink_id,
        again.generation,
        again.epoch,
        again.root,
        state_of(again),
    )
    again.close()
    raw = (tmp_path / "pool").read_bytes()
    assert b"label" not in raw
    assert b"root" not in raw


def test_pool_on_a_medium_in_use_is_not_created() -> None:
    """Creating overwrites neither a pool nor anything else."""
    medium = SimulatedMedium(size_of(4))
    create([medium])
    before = list(medium.written())
    with pytest.raises(Conflict, match="superblock 0 of medium 0: holds 5343525542"):
        create([medium])
    assert list(medium.written()) == before
    medium.plant(0, bytes(4096))
    with pytest.raises(Conflict, match="superblock 1 of medium 0"):
        create([medium])


def test_change_sees_itself_and_readers_see_what_is_durable() -> None:
    """A block reads what it staged; nobody else does until it is durable."""
    pool = create(records={b"b1": b"1", b"b2": b"2"} | {b"p": b""})
    generation = pool.generation
    with pool.change() as change:
        change.put(b"b3", b"3")
        change.delete(b"b1")
        change.put(b"b2", b"two")
        assert (change.get(b"b1"), change.get(b"b2"), change.get(b"p")) == (None, b"two", b"")
        assert change.keys(b"b") == [b"b2", b"b3"]
        assert change.scan(b"b") == [(b"b2", b"two"), (b"b3", b"3")]
        assert pool.scan(b"b") == [(b"b1", b"1"), (b"b2", b"2")]
        assert pool.keys(b"b") == [b"b1", b"b2"]
    assert pool.scan(b"b") == [(b"b2", b"two"), (b"b3", b"3")]
    assert pool.generation == generation + 1


def test_scan_in_portions_yields_everything_once(seed: int) -> None:
    """`after` and `limit` walk through a prefix without gap or repetition."""
    random = Random(seed)
    records = {b"v" + random.randbytes(3): random.randbytes(2000) for _ in range(200)}
    pool = create(records=records | {b"u": b"", b"w": b""})
    found: list[tuple[bytes, bytes]] = []
    while portion := pool.scan(b"v", after=found[-1][0] if found else b"", limit=7):
        assert len(portion) <= 7
        found += portion
    assert found == sorted(records.items())
    assert pool.scan(b"v", after=b"a", limit=1) == found[:1]
    assert pool.scan(b"v", after=b"w") == []


def test_change_that_raises_is_dropped_alone() -> None:
    """A Conflict in one block drops that block's puts and slots, and nobody else's."""
    pool = create()
    before = (state_of(pool), pool.counts, pool.generation, pool.pages)

    def attempt() -> None:
        with pool.change() as change:
            change.put(b"v1", b"x" * 3000)
            change.lease_slots(LineageNo(1), 2)
            change.set_root(NEW_ROOT)
            raise Dropped

    with pytest.raises(Dropped):
        attempt()
    assert (state_of(pool), pool.counts, pool.generation, pool.pages) == before
    assert pool.root == ROOT
    with pool.change() as change:
        assert change.root == ROOT
        change.put(b"v2", b"y")
    assert pool.get(b"v1") is None
    assert pool.get(b"v2") == b"y"


def test_change_with_a_silly_value_is_refused_and_dropped() -> None:
    """What the tree cannot hold fails that change; the pool goes on."""
    pool = create()
    for key, value in ((b"", b"x"), (b"k" * 256, b"x"), (b"k", bytes(65537))):
        with pytest.raises(Invalid), pool.change() as change:
            change.staged.update({b"beside": b"it", key: value})
    assert pool.get(b"beside") is None
    with pool.change() as change:
        change.put(b"k" * 255, bytes(65536))
    assert pool.get(b"k" * 255) == bytes(65536)


def test_block_that_changes_nothing_commits_nothing() -> None:
    """Looking is free: no sync, no generation."""
    medium = Gated(size_of(4))
    pool = create([medium])
    before = (medium.syncs, pool.generation)
    with pool.change() as change:
        assert change.get(b"p")
    assert (medium.syncs, pool.generation) == before


def test_changes_of_many_threads_share_commits() -> None:
    """While one commit is being written all others gather, and the next one takes them all."""
    medium = Gated(size_of(4))
    pool = create([medium])
    generation = pool.generation
    medium.opened.clear()
    medium.reached.clear()
    staged = [Event() for _ in range(20)]

    def work(number: int) -> None:
        with pool.change() as change:
            change.put(b"v%02d" % number, b"x")
        staged[number].set()

    threads = [Thread(target=work, args=(0,))]
    threads[0].start()
    medium.reached.wait()  # the first one is writing
    threads += [Thread(target=work, args=(number,)) for number in range(1, 20)]
    for thread in threads[1:]:
        thread.start()
    _wait_until_staged(pool, 19)
    assert pool.keys(b"v") == [], "nothing is durable yet"
    assert not any(each.is_set() for each in staged), "and nobody was told so"
    medium.opened.set()
    for thread in threads:
        thread.join()
    assert len(pool.keys(b"v")) == 20
    assert pool.generation == generation + 2
    assert all(each.is_set() for each in staged)


def test_conflict_among_threads_that_share_a_commit_drops_one() -> None:
    """Blocks see each other's staged values: of many that claim one thing, one gets it."""
    medium = Gated(size_of(4))
    pool = create([medium])
    medium.opened.clear()
    medium.reached.clear()
    outcomes: list[str] = []
    together = Barrier(8)

    def claim(name: str) -> None:
        together.wait()
        with suppress(Conflict), pool.change() as change:
            if change.get(b"v"):
                outcomes.append("taken")
                raise Conflict(f"volume {name}: taken")
            change.put(b"v", name.encode())
            outcomes.append(name)

    threads = [Thread(target=claim, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    medium.opened.set()
    for thread in threads:
        thread.join()
    assert outcomes.count("taken") == 7
    (winner,) = (each for each in outcomes if each != "taken")
    assert pool.get(b"v") == winner.encode()


def test_pool_under_many_threads_keeps_every_change(seed: int) -> None:
    """Changes, slots and readers of several threads at once: nothing is lost or mixed."""
    medium = SimulatedMedium(size_of(40))
    pool = create([medium])
    wrong: list[str] = []
    leased: dict[int, list[Slot]] = {}

    def work(number: int) -> None:
        random = Random(seed + number)
        mine: list[Slot] = []
        for step in range(40):
            with pool.change() as change:
                change.put(b"v%d" % number, b"%d" % step * random.randrange(500))
                if random.random() < 0.5 and len(mine) < 6:
                    mine += change.lease_slots(LineageNo(number + 1), 1)
                elif mine:
                    change.release_slots(LineageNo(number + 1), [mine.pop()])
            seen = pool.get(b"v%d" % number)
            if seen is None or seen.replace(b"%d" % step, b""):
                wrong.append(f"thread {number} read {seen!r} at step {step}")
        leased[number] = mine

    threads = [Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    slots = [slot for mine in leased.values() for slot in mine]
    assert len(slots) == len(set(slots)) == pool.counts.leased
    expected = state_of(pool)
    again = reopen([medium])
    assert state_of(again) == expected
    assert again.counts == pool.counts
    assert again.verify() == again.pages[0] == pool.pages[0]


@pytest.mark.parametrize("kind", [IoKind.WRITE, IoKind.SYNC])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("fault", list(Fault))
def test_failure_in_a_commit_stops_the_pool_until_opened_anew(
    kind: IoKind, after: int, fault: Fault
) -> None:
    """I4: whatever fails, pages or superblock, write or sync: stop, never retry."""
    medium = SimulatedMedium(size_of(8))
    pool = create([medium], records={b"p": b"old"})
    medium.inject(fault, after=after, kind=kind)
    with pytest.raises(Unavailable, match="stopped, a commit failed") as caught, pool.change() as c:
        c.put(b"p", b"new")
    assert "anew" in caught.value.hint
    calls: list[Callable[[], object]] = [
        lambda: pool.get(b"p"),
        lambda: pool.keys(b"p"),
        lambda: pool.scan(b"p"),
        pool.verify,
        pool.change().__enter__,
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="stopped"):
            call()
    pool.close()
    for crashed in medium.crashes():
        again = reopen([crashed])
        assert again.get(b"p") in (b"old", b"new")
        with again.change() as change:
            change.put(b"p", b"newer")
        assert reopen([crashed]).get(b"p") == b"newer"


def test_failure_reaches_everyone_who_waits() -> None:
    """All who share a failed commit, or wait behind it, are told; nobody hangs."""
    medium = Gated(size_of(4))
    pool = create([medium])
    medium.opened.clear()
    medium.reached.clear()
    told: list[Unavailable] = []

    def work(number: int) -> None:
        try:
            with pool.change() as change:
                change.put(b"v%02d" % number, b"x")
        except Unavailable as error:
            told.append(error)

    threads = [Thread(target=work, args=(0,))]
    threads[0].start()
    medium.reached.wait()
    threads += [Thread(target=work, args=(number,)) for number in range(1, 10)]
    for thread in threads[1:]:
        thread.start()
    _wait_until_staged(pool, 9)
    medium.inject(Fault.ERROR, kind=IoKind.SYNC)
    medium.opened.set()
    for thread in threads:
        thread.join()
    assert len(told) == 10


def test_pool_older_than_what_is_known_is_refused_untouched() -> None:
    """I6: a pool from an older backup is refused, and not one byte of it changes."""
    medium = SimulatedMedium(size_of(4))
    pool = create([medium])
    with pool.change() as change:
        change.put(b"v", b"1")
    old = medium.crash(lambda _: 0)
    with pool.change() as change:
        change.put(b"v", b"2")
    old.flip(8 * 100)  # the other copy needs mending, which must not happen either
    before = list(old.written())
    with pytest.raises(Corrupt, match=rf"expected {pool.generation} or later") as caught:
        _open([old], generation_at_least=pool.generation)
    assert "older copy" in caught.value.hint
    assert list(old.written()) == before
    assert _open([medium], generation_at_least=pool.generation).get(b"v") == b"2"


def test_pool_with_both_superblocks_damaged_is_corrupt() -> None:
    """One damaged copy is mended at opening; two are an end with words."""
    medium = SimulatedMedium(size_of(4))
    pool = create([medium])
    with pool.change() as change:
        change.put(b"v", b"1")
    newest = 65536 * (pool.generation % 2)
    other = 65536 - newest
    medium.flip(8 * (other + 700))
    again = reopen([medium])
    assert again.get(b"v") == b"1"
    medium.flip(8 * (65536 * (again.generation % 2) + 9))
    assert reopen([medium]).get(b"v") == b"1", "the copy was mended"
    for copy in (0, 65536):
        medium.flip(8 * (copy + 1400))
    before = list(medium.written())
    with pytest.raises(Corrupt, match=r"superblock 0.*superblock 1"):
        reopen([medium])
    assert list(medium.written()) == before


def test_pool_with_an_unreadable_superblock_uses_the_other() -> None:
    """A sector that cannot be read is no worse than a damaged one."""
    medium = SimulatedMedium(size_of(4))
    pool = create([medium])
    newest = 65536 * (pool.generation % 2)
    medium.unreadable.add((65536 - newest) // 4096)
    assert reopen([medium]).get(b"p")


def test_pool_with_a_damaged_page_does_not_open(seed: int) -> None:
    """A flipped bit in any page of the tree is found at opening, and named."""
    medium = SimulatedMedium(size_of(4))
    records = {b"k%04d" % number: b"v" * 100 for number in range(300)} | {b"long": b"x" * 9000}
    create([medium], records=records)
    random = Random(seed)
    for offset, block in medium.written():
        if offset < MIB or not any(block):
            continue
        bit = 8 * (offset + random.randrange(4096)) + random.randrange(8)
        medium.flip(bit)
        with pytest.raises(Corrupt, match="metadata page"):
            reopen([medium]).verify()
        medium.flip(bit)
    assert reopen([medium]).verify()


def test_pool_on_a_truncated_medium_is_refused() -> None:
    """A file that lost its end is an error at once, not at the first read behind it."""
    medium = SimulatedMedium(size_of(4))
    create([medium])
    short = SimulatedMedium(size_of(3))
    for offset, block in medium.written():
        short.plant(offset, block)
    with pytest.raises(Corrupt, match="expected room for 4 slots"):
        reopen([short])
    with pytest.raises(Invalid, match="2 media, expected 1"):
        reopen([medium, SimulatedMedium(size_of(4))])


def test_medium_that_is_no_pool_says_so() -> None:
    """A wrong file gets words that help."""
    with pytest.raises(Corrupt, match="expected 5343525542") as caught:
        reopen([SimulatedMedium(size_of(4))])
    assert "the pool's file" in caught.value.hint


def test_medium_that_fails_its_first_sync_is_not_opened() -> None:
    """What the system holds but the medium does not must not be believed."""
    medium = SimulatedMedium(size_of(4))
    create([medium])
    medium.inject(Fault.ERROR, kind=IoKind.SYNC)
    with pytest.raises(Unavailable, match="sync failed on opening"):
        reopen([medium])


def _open(media: list[SimulatedMedium], *, generation_at_least: int) -> Pool:
    return Pool.open(
        media,
        clock=Tick(),
        entropy=Seeded(),
        epoch_keys=Sink().key,
        generation_at_least=generation_at_least,
    )


def _wait_until_staged(pool: Pool, count: int) -> None:
    """Return once so many changes wait for the next commit."""
    while len(pool._next.changes) < count:  # noqa: SLF001 - nothing else can be waited for
        Event().wait(0.001)
