"""What is dead, against an oracle that keeps a set of what is named."""

# ruff: noqa: SLF001 - pages that cannot be read are arranged by hand

from __future__ import annotations

from random import Random

import pytest

from scrubjay.engine.entry import pack, position_of
from scrubjay.engine.paged import PagedMap
from scrubjay.engine.usage import EVACUATED, MAIN, MOVED, Usage


def _no_page(address: int, entry: int) -> bytes:
    raise AssertionError("nothing was written")


class Ledger:
    """Usage beside sets of the entries that are named."""

    def __init__(self) -> None:
        self.moves = PagedMap(2, _no_page, height=0, root=0)
        self.usage = Usage(PagedMap(1, _no_page, height=0, root=0), self.moves, live_sectors=0)
        self.written: dict[int, list[int]] = {}
        self.named: set[int] = set()
        """Entries as a map names them."""
        self.places: dict[int, int] = {}
        """Where each of them is, if it was moved."""
        self.next = 1

    def open(self, state: int) -> int:
        """Open another segment."""
        self.next += 1
        self.usage.opened(self.next, state)
        self.written[self.next] = []
        return self.next

    def put(self, segment: int, sectors: int) -> list[int]:
        """Write a unit behind the others; return its entries."""
        written = self.written[segment]
        at = sum(size for size in written)
        written.append(sectors * 4096 + 16)
        self.usage.wrote(segment, sectors)
        return [
            pack(segment=segment, offset_bytes=at, sectors=sectors, index=i) for i in range(sectors)
        ]

    def check(self) -> None:
        """Compare counts and dead bits."""
        self.usage.settle()
        assert self.usage.live_sectors == len(self.named)
        live = dict.fromkeys(self.written, 0)
        for entry in self.named:
            live[entry >> 28] += 1
            assert not self.usage.dead(entry >> 28) >> position_of(entry) & 1
            if place := self.places.get(entry):
                live[place >> 28] += 1
                assert not self.usage.dead(place >> 28) >> position_of(place) & 1
        for segment, count in live.items():
            assert self.usage.count(segment) == count, segment
            assert self.usage.is_empty(segment) == (count == 0)
            assert (segment in self.usage.empty) == (count == 0)
            if segment in self.usage.moved:
                continue
            dead = self.usage.dead(segment).bit_count()
            assert dead == self.usage.written(segment) - count


def test_usage_of_any_history_counts_what_is_named(seed: int) -> None:
    """A sector is dead once a map let it go, and its copy elsewhere with it; never before."""
    random = Random(seed)
    for _ in range(10):
        ledger = Ledger()
        main = ledger.open(MAIN)
        for _ in range(300):
            match random.randrange(10):
                case 0:
                    main = ledger.open(MAIN)
                case 1 | 2 | 3 | 4:
                    ledger.named.update(ledger.put(main, random.choice([1, 2, 4, 4, 4])))
                case 5 | 6 | 7:
                    gone = sorted(ledger.named)
                    first = random.randrange(len(gone) + 1)
                    gone = gone[first : first + random.choice([1, 4, 9, 30])]
                    if random.random() < 0.3:
                        random.shuffle(gone)
                    ledger.usage.displaced += [*gone, 0]
                    ledger.named.difference_update(gone)
                case 8:
                    _move(ledger, random)
                case _:
                    ledger.check()
        ledger.check()


def _move(ledger: Ledger, random: Random) -> None:
    """Move what is named in one segment, as cleaning does."""
    usage = ledger.usage
    usage.settle()
    victims = [s for s in ledger.written if usage.state(s) == MAIN and s != ledger.next]
    if not victims:
        return
    victim, target = random.choice(victims), ledger.open(MOVED)
    usage.set_state(victim, EVACUATED)
    for entry in sorted(ledger.named):
        if entry >> 28 != victim:
            continue
        (place,) = ledger.put(target, 1)
        ledger.moves[victim << 12 | position_of(entry)] = ledger.places[entry] = place
        usage.live_sectors -= 1


def test_settle_of_the_same_entry_twice_counts_once() -> None:
    """Dead bits are facts: to say one again changes nothing."""
    ledger = Ledger()
    entries = ledger.put(ledger.open(MAIN), 4)
    for _ in range(2):
        ledger.usage.displaced += entries
        ledger.usage.settle()
    assert ledger.usage.count(entries[0] >> 28) == 0
    assert ledger.usage.live_sectors == 0


def test_settle_again_of_a_moved_sector_reaches_its_copy() -> None:
    """Replay may find the origin dead already, and its copy not: both are dead after it."""
    ledger = Ledger()
    segment, target = ledger.open(MAIN), ledger.open(MOVED)
    (entry,) = ledger.put(segment, 1)
    ledger.usage.displaced.append(entry)
    ledger.usage.settle()
    ledger.usage.set_state(segment, EVACUATED)
    (copy,) = ledger.put(target, 1)
    ledger.moves[segment << 12 | position_of(entry)] = copy
    ledger.usage.displaced.append(entry)
    ledger.usage.settle()
    assert ledger.usage.is_empty(target)
    assert ledger.usage.live_sectors == 0


def test_revive_of_a_dead_sector_makes_it_count_again() -> None:
    """Replay applies a write whose dead bit is newer than it: the sector lives meanwhile."""
    ledger = Ledger()
    entries = ledger.put(ledger.open(MAIN), 4)
    ledger.usage.displaced += entries
    ledger.usage.settle()
    for entry in entries[:2]:
        ledger.usage.revive(entry >> 28, position_of(entry))
        ledger.usage.revive(entry >> 28, position_of(entry))
    ledger.named.update(entries[:2])
    ledger.check()


@pytest.mark.parametrize("position", [60, 61, 62, 63, 64])
def test_settle_of_a_whole_unit_across_words_kills_its_four_sectors(position: int) -> None:
    """The short cut for whole units is the same as the long way, at each edge of a word."""
    ledger = Ledger()
    segment = ledger.open(MAIN)
    ledger.put(segment, 1)
    ledger.usage.wrote(segment, 4)
    ledger.usage.displaced += [
        pack(segment=segment, offset_bytes=position * 4096 + 64, sectors=4, index=i)
        for i in range(4)
    ]
    ledger.usage.settle()
    assert ledger.usage.dead(segment) == 15 << position
    assert ledger.usage.count(segment) == 1


def test_forget_of_a_segment_leaves_nothing_of_it() -> None:
    """What is known of a segment that is gone goes too, its moves included."""
    ledger = Ledger()
    segment, other = ledger.open(MAIN), ledger.open(MAIN)
    (entry,) = ledger.put(segment, 1)
    kept = ledger.put(other, 4)
    ledger.moves[segment << 12 | position_of(entry)] = kept[0]
    ledger.usage.displaced.append(entry)
    ledger.usage.settle()
    assert ledger.usage.forget(segment) == []
    assert ledger.usage.state(segment) == 0
    assert ledger.usage.written(segment) == 0
    assert ledger.usage.dead(segment) == 0
    assert ledger.moves[segment << 12 | position_of(entry)] == 0
    assert segment not in ledger.usage.empty
    ledger.named.update(kept)
    ledger.check()


def test_settle_in_portions_ends_where_settle_at_once_does() -> None:
    """A trim that displaces a million entries is accounted for bit by bit, and as a whole."""
    whole, parts = Ledger(), Ledger()
    segment = whole.open(MAIN)
    assert parts.open(MAIN) == segment
    for ledger in (whole, parts):
        entries = [entry for _ in range(30) for entry in ledger.put(segment, 4)]
        ledger.usage.displaced += [0, *entries[:50], *entries[90:]]
    portions = 0
    while parts.usage.displaced:
        parts.usage.settle(most=7)
        portions += 1
    whole.usage.settle()
    assert portions == 12
    assert parts.usage.live_sectors == whole.usage.live_sectors == 40
    assert parts.usage.dead(segment) == whole.usage.dead(segment)


def test_settle_with_a_page_that_cannot_be_read_loses_count_of_that_segment_alone() -> None:
    """An error in one place leaks its space, and no other's (I1: no dead bit is wrong)."""
    ledger = Ledger()
    segments = [ledger.open(MAIN) for _ in range(5)]
    entries = [ledger.put(segment, 4) for segment in segments]
    ledger.usage.displaced += [each for four in entries for each in four[:3]]
    kill = ledger.usage._kill

    def unreadable(segment: int, dead: list[int], *, data: bool) -> int:
        if segment == segments[2]:
            raise OSError(5, "unreadable")
        return kill(segment, dead, data=data)

    ledger.usage._kill = unreadable  # type: ignore[assignment,method-assign] # the page behind it
    with pytest.raises(OSError, match="unreadable"):
        ledger.usage.settle()
    ledger.usage.settle()
    assert [ledger.usage.count(segment) for segment in segments] == [1, 1, 4, 1, 1]
    assert ledger.usage.live_sectors == 8


def test_settle_that_cannot_read_where_sectors_went_has_changed_nothing() -> None:
    """Dead bits without their counts would leak for ever: first everything is read."""
    ledger = Ledger()
    segment = ledger.open(MAIN)
    (entry,) = ledger.put(segment, 1)
    ledger.usage.set_state(segment, EVACUATED)

    class Unreadable:
        def __getitem__(self, _key: int) -> int:
            raise OSError(5, "unreadable")

    moves, ledger.usage._moves = ledger.usage._moves, Unreadable()  # type: ignore[assignment] # fails
    ledger.usage.displaced.append(entry)
    with pytest.raises(OSError, match="unreadable"):
        ledger.usage.settle()
    assert not ledger.usage.dead(segment)
    ledger.usage._moves = moves
    ledger.usage.displaced.append(entry)
    ledger.usage.settle()
    assert ledger.usage.live_sectors == 0
