"""The model's checks can fail: one story, told once as it is and once with each of these bugs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pytest
from cryptography.exceptions import InvalidTag

from scrubjay.base.errors import Corrupt
from scrubjay.base.ids import Epoch, LineageNo, Slot
from scrubjay.base.units import KIB, MIB, SECTOR_BYTES
from scrubjay.control.directory import groups_of
from scrubjay.control.keeper import Change
from scrubjay.engine.disk import Disk
from scrubjay.engine.entry import STRIPE_SHIFT, offset_of
from scrubjay.engine.reading import Reader
from scrubjay.engine.stripes import Segments
from scrubjay.engine.writing import Writer
from scrubjay.media.slots import Slots
from scrubjay.sinks.keeper import EpochKeeper
from tests.model.house import House

Plant = Callable[[pytest.MonkeyPatch], None]
EVENTS = {
    "daemon killed at work",
    "lost what was not flushed",
    "moved sectors",
    "pool full",
    "power failed",
    "purged",
    "settled after a crash",
    "slot went to another tenant",
}


def tell(house: House) -> None:
    """Play everything once: overwriting, cleaning, kills, crashes, a full pool, destruction."""
    house.tenant("acme")
    house.tenant("zeta")
    house.create("a", tenant="acme", size_bytes=2 * MIB)
    house.create("z", tenant="zeta", size_bytes=MIB)
    house.attach("a")
    house.attach("z")
    house.write("a", (0, 300 * KIB), (500_001, 5_000))
    for _ in range(3):
        house.close_segment("a")
        house.write("a", (3 * SECTOR_BYTES, 100 * KIB), (700_007, 70))
    house.close_segment("a")
    house.clean("a", 100)
    house.checkpoint("a")
    house.write("z", (0, 200 * KIB))
    house.write("a", (0, 8 * KIB))
    for _ in range(3):
        house.close_segment("z")
        house.write("z", (0, 100 * KIB))
    house.read("a", 0, 2 * MIB)
    house.detach("a")
    house.attach("a")
    house.zero("z", 5 * SECTOR_BYTES, 40 * SECTOR_BYTES, exact=False)
    house.kill("z")
    house.restart("older")
    house.attach("z")
    for _ in range(4):
        house.write("z", (0, 64 * KIB))
        house.flush("z")
        house.write("z", (16 * KIB, 64 * KIB))
        house.write("a", (MIB, 9_999))
        house.crash()
        house.attach("a")
        house.attach("z")
    house.destroy("a")
    for name in ("b", "c", "d", "e"):
        house.create(name, tenant="zeta", size_bytes=MIB)
        house.attach(name)
        house.write(name, (0, 9 * SECTOR_BYTES))
    for ios in range(8):
        house.fail_daemon_after(ios)
        house.write("b", (0, SECTOR_BYTES))
        house.checkpoint("b")
    for hours in (13, 26):
        house.write("b", (0, 200 * KIB))
        house.close_segment("b")
        house.write("b", (5 * SECTOR_BYTES, 3 * SECTOR_BYTES))
        house.purge("b", hours=hours, forget=True)
    house.detach("c")
    house.resize("b", size_bytes=3 * MIB)
    house.read("b", 2 * MIB, MIB)
    house.finish()


@pytest.mark.slow
def test_story_of_everything_ends_well(house: House) -> None:
    """And everything that the model is about happens in it."""
    tell(house)
    assert set(house.events) >= EVENTS


def leases_anothers_slot(patch: pytest.MonkeyPatch) -> None:
    """The first slot of a lease is one that another lineage holds."""
    real = Change.lease_slots

    def lease_slots(self: Change, lineage: LineageNo, count: int) -> list[Slot]:
        slots = real(self, lineage, count)
        others = [
            slot
            for _, record in self.volumes()
            if record.lineage != lineage
            for _, group in groups_of(self, LineageNo(record.lineage))
            for slot in group.slots
            if slot is not None
        ]
        return [*others[:1], *slots[1:]] if others else slots

    patch.setattr(Change, "lease_slots", lease_slots)


def reads_stale_places_raw(patch: pytest.MonkeyPatch) -> None:
    """A freed segment is still read where it was, and what does not open is passed on."""
    real = Reader.read_into

    def read_into(self: Reader, lba: int, sectors: int, out: memoryview) -> None:
        for at in range(sectors):
            sector = out[at * SECTOR_BYTES : (at + 1) * SECTOR_BYTES]
            try:
                real(self, lba + at, 1, sector)
            except Corrupt:
                entry = self._map[lba + at]
                place = self._segments.places[entry >> STRIPE_SHIFT]
                self._medium.read_into(place[1] + offset_of(entry), sector)

    def drop(self: Segments, segment: int) -> None:
        self._bases.pop(segment, None)

    # What was freed goes to the next who asks: slots that wait to be scrubbed go last else.
    patch.setattr(Slots, "_shelf", lambda self, _number: self._idle)

    patch.setattr(Segments, "drop", drop)
    patch.setattr(Reader, "read_into", read_into)


def _certify_anything(patch: pytest.MonkeyPatch) -> None:
    """Have certificates believe what they are told: they would refuse these bugs themselves."""
    patch.setattr("scrubjay.evidence.certificate.is_erased", lambda *_: True)
    patch.setattr("scrubjay.evidence.certificate.rules_of", lambda _: {})


def purges_nothing(patch: pytest.MonkeyPatch) -> None:
    """What volumes give up is taken from the list, and from nowhere else."""
    patch.setattr("scrubjay.control.purging._paths", lambda *_: [])


def forgets_without_rotation(patch: pytest.MonkeyPatch) -> None:
    """A destroyed volume's records go, and the keys stay what they were."""
    _certify_anything(patch)
    patch.setattr(Change, "forget", lambda *_, **__: None)


def drops_epochs_later(patch: pytest.MonkeyPatch) -> None:
    """The sink is rid of an old epoch when the next one comes, and says so before."""
    _certify_anything(patch)
    settle, prepare = EpochKeeper.settle, EpochKeeper.prepare

    def late(self: EpochKeeper, named: Epoch) -> Epoch:
        settle(self, named)
        return prepare(self, named)

    patch.setattr(EpochKeeper, "settle", lambda *_: ())
    patch.setattr(EpochKeeper, "prepare", late)


def flushes_nothing(patch: pytest.MonkeyPatch) -> None:
    """A flush is answered, and nothing was synced."""
    patch.setattr(Disk, "sync", lambda _: None)


def seals_nothing(patch: pytest.MonkeyPatch) -> None:
    """Units are what the tenant wrote, authentic and in the clear."""

    class Clear:
        def __init__(self, key: bytes) -> None:
            self._key = key

        def encrypt_into(
            self, nonce: bytes, data: memoryview, ad: bytes | None, out: memoryview
        ) -> int:
            out[:] = bytes(data) + self._tag(nonce, bytes(data), ad)
            return len(out)

        def decrypt_into(
            self, nonce: bytes, data: memoryview, ad: bytes | None, out: memoryview
        ) -> int:
            out[:] = self.decrypt(nonce, data, ad)
            return len(out)

        def decrypt(self, nonce: bytes, data: memoryview, ad: bytes | None) -> bytes:
            text, tag = bytes(data[:-16]), bytes(data[-16:])
            if tag != self._tag(nonce, text, ad):
                raise InvalidTag
            return text

        def _tag(self, nonce: bytes, text: bytes, ad: bytes | None) -> bytes:
            return hashlib.blake2b(
                nonce + text + (ad or b""), key=self._key, digest_size=16
            ).digest()

    patch.setattr("scrubjay.engine.stripes.AESGCM", Clear)


def trims_in_memory_alone(patch: pytest.MonkeyPatch) -> None:
    """A trim changes the map, and the log does not know."""
    patch.setattr(Writer, "drop", Writer.forget)


def loses_slots(patch: pytest.MonkeyPatch) -> None:
    """What a destroyed volume held is nobody's, and not free."""
    patch.setattr(Change, "release_slots", lambda *_, **__: frozenset())


BUGS: Sequence[tuple[Plant, str]] = (
    (leases_anothers_slot, "of lineages"),
    (reads_stale_places_raw, "other bytes, expected write"),
    (forgets_without_rotation, "forgotten, and opens"),
    (purges_nothing, "purged, and opens"),
    (drops_epochs_later, "forgotten, and opens"),
    (flushes_nothing, "neither old nor new"),
    (seals_nothing, "in the clear"),
    (trims_in_memory_alone, "expected zeros"),
    (loses_slots, "not listed"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "complaint"), BUGS)
def test_planted_bug_in_the_story_is_caught(
    house: House, monkeypatch: pytest.MonkeyPatch, plant: Plant, complaint: str
) -> None:
    """Each of these breaks a promise, and the check of that promise says so."""
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=complaint):
        tell(house)
