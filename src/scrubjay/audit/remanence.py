"""Does anything come back? Marked blocks written, destroyed, and looked for everywhere.

In each cycle one of two tenants makes a volume and reads all of it before it writes; fills it
in part; reads; lets it grow; reads; detaches, attaches, and reads; fills it all; destroys it.
The next cycle's volume is the other tenant's, and is likely to get the same slots. At the end
the raw media are searched for the run's mark, while the last volume is there, full of it.

What may be read is known for every sector: what this volume wrote there, or zeros. Anything
else is **foreign**; zeros in the place of what was written are **lost**.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from scrubjay.audit.marks import Marks, Origin
from scrubjay.audit.storage import Disk, Storage
from scrubjay.base.errors import Invalid, NoSpace, ScrubjayError, Unavailable
from scrubjay.base.units import MIB, SECTOR_BYTES

__all__ = ["CYCLES_MAX", "Remanence", "Report", "check_extent"]

CYCLES_MAX = 1_000_000
SIZE_MIN, SIZE_MAX = MIB, 1 << 40
_PIECE_SECTORS = 64
_RUN_SECTORS = 8
"""Sectors are written and left out in runs of so many at first."""
_ODD_BYTES = 512
"""Of the write that covers no whole sector: the rest of it must read as zeros."""
_FINDINGS_MAX = 16
_ZEROS = bytes(SECTOR_BYTES)

Tell = Callable[["Report"], None]


@dataclass(slots=True)
class Report:
    """What an audit did, and what it found. Blocks are of 4096 bytes."""

    mark: str
    cycles: int = 0
    blocks_written: int = 0
    blocks_read: int = 0
    foreign_blocks: int = 0
    lost_blocks: int = 0
    raw_marks: int = 0
    raw_bytes: int = 0
    """Of the media that were searched; 0: they were not."""
    findings: list[str] = field(default_factory=list)
    """The first ones, in words."""
    left: list[str] = field(default_factory=list)
    """What could not be taken away again."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found that should not be there."""
        return not (self.foreign_blocks or self.lost_blocks or self.raw_marks)


class Remanence:
    """One run of the audit."""

    def __init__(
        self, storage: Storage, *, mark: bytes, size_bytes: int, tell: Tell = lambda _: None
    ) -> None:
        """`mark` also makes the names unique; `tell` hears of each step's counts."""
        self._storage = storage
        self._marks = Marks(mark)
        self._size_bytes = size_bytes
        self._tell = tell
        self._prefix = f"remanence-{mark.hex()[:12]}"
        self._tenants = (f"{self._prefix}-a", f"{self._prefix}-b")
        self._made_tenants: list[str] = []
        self._volume = ""
        """The one that is there now; "" for none."""
        self.report = Report(mark.hex())

    def run(self, cycles: int) -> Report:
        """Go through the cycles, search the media, take everything away again, and report.

        Raises what the storage raises, having taken away what it made, also where somebody
        interrupts it; NoSpace or Unavailable where a disk does not take or give its bytes.
        """
        check_extent(cycles, self._size_bytes)
        try:
            for tenant in self._tenants:
                self._made_tenants.append(tenant)
                self._storage.make_tenant(tenant)
            for number in range(1, cycles + 1):
                if self._volume:
                    self._destroy()
                self._cycle(number)
                self.report.cycles = number
                self._tell(self.report)
            self._scan()
        except OSError as error:
            raise self._refused(error) from error
        finally:
            self._clean()
        return self.report

    def _cycle(self, number: int) -> None:
        name = f"{self._prefix}-{number}"
        self._volume = name
        self._storage.make_volume(
            name, tenant=self._tenants[number % 2], size_bytes=self._size_bytes
        )
        image = _Image(self._marks, number)
        with _Connected(self._storage.attach(name)) as disk:
            self._look(disk, image, "new")
            self._write(disk, image.partial(self._size_bytes // SECTOR_BYTES))
            self._look(disk, image, "written in part")
        self._storage.grow(name, size_bytes=2 * self._size_bytes)
        self._storage.detach(name)
        with _Connected(self._storage.attach(name)) as disk:
            self._look(disk, image, "grown, detached and attached")
            self._write(disk, image.full(disk.size_bytes // SECTOR_BYTES))
            self._look(disk, image, "full")

    def _write(self, disk: Disk, pieces: Iterable[tuple[int, bytes]]) -> None:
        written = disk.write_all(pieces)
        disk.flush()
        self.report.blocks_written += -(-written // SECTOR_BYTES)

    def _look(self, disk: Disk, image: _Image, when: str) -> None:
        """Read a whole volume, and compare each sector with what it may hold."""
        step = _PIECE_SECTORS * SECTOR_BYTES
        size = disk.size_bytes
        for offset, data in disk.read_all(
            (at, min(step, size - at)) for at in range(0, size, step)
        ):
            self.report.blocks_read += len(data) // SECTOR_BYTES
            expected = image.expected(offset // SECTOR_BYTES, len(data) // SECTOR_BYTES)
            if data != expected:
                self._differ(offset // SECTOR_BYTES, data, expected, when)

    def _differ(self, first: int, data: bytes, expected: bytes, when: str) -> None:
        for at in range(0, len(data), SECTOR_BYTES):
            found = data[at : at + SECTOR_BYTES]
            if found == expected[at : at + SECTOR_BYTES]:
                continue
            where = f"{self._volume}, {when}, block {first + at // SECTOR_BYTES}"
            if found == _ZEROS:
                self.report.lost_blocks += 1
                self._found(f"{where}: zeros in the place of what was written")
                continue
            self.report.foreign_blocks += 1
            origin = self._marks.origin(found)
            if origin is None:
                self._found(f"{where}: bytes that nobody wrote in this audit")
            elif origin == self._marks.origin(expected[at : at + SECTOR_BYTES]):
                self._found(f"{where}: its own mark, beside bytes that nobody wrote there")
            else:
                whose = f"volume {origin.volume}, version {origin.version}"
                self._found(f"{where}: block {origin.sector} of {whose}")

    def _scan(self) -> None:
        found = self._storage.scan(self._marks.mark)
        self.report.raw_bytes, self.report.raw_marks = found.bytes_scanned, found.matches
        for offset in found.offsets:
            self._found(f"media, byte {offset}: the mark, in the clear")

    def _found(self, text: str) -> None:
        if len(self.report.findings) < _FINDINGS_MAX:
            self.report.findings.append(text)

    def _destroy(self) -> None:
        name = self._volume
        self._storage.destroy(name)
        self._volume = ""

    def _refused(self, error: OSError) -> ScrubjayError:
        """Return what a disk said as an error of ours."""
        message = f"volume {self._volume}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free space in the pool, or audit smaller volumes: --size-mib"
            return NoSpace(
                f"{message}, expected room for twice {self._size_bytes} bytes", hint=hint
            )
        return Unavailable(f"{message}, expected its bytes", hint="see the daemon's log")

    def _clean(self) -> None:
        """Take away what was made, as far as that is possible, and say what was not."""
        if self._volume:
            volume = self._volume
            try:
                self._destroy()
            except ScrubjayError as error:
                self.report.left.append(f"volume {volume}: {error.message}")
        for tenant in self._made_tenants:
            try:
                if not self._storage.close_tenant(tenant):
                    self.report.left.append(f"tenant {tenant}: empty")
            except ScrubjayError as error:
                self.report.left.append(f"tenant {tenant}: {error.message}")
        self._made_tenants = []


class _Connected:
    """Closes a connection at the end of its block."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __enter__(self) -> Disk:
        return self._disk

    def __exit__(self, *_: object) -> None:
        self._disk.close()


class _Image:
    """What a volume was given to hold."""

    def __init__(self, marks: Marks, volume: int) -> None:
        self._marks = marks
        self._volume = volume
        self._sectors: dict[int, bytes] = {}

    def partial(self, sectors: int) -> Iterator[tuple[int, bytes]]:
        """Yield what covers every second run of sectors, and a part of one between them."""
        for first in range(0, sectors, 2 * _RUN_SECTORS):
            yield self._put(first, min(_RUN_SECTORS, sectors - first), version=1)
        odd, inside = 2 * _RUN_SECTORS - 1, SECTOR_BYTES // 2  # a sector that was left out
        mark = self._marks.sector(Origin(self._volume, 1, odd))[:_ODD_BYTES]
        self._sectors[odd] = (bytes(inside) + mark).ljust(SECTOR_BYTES, b"\0")
        yield odd * SECTOR_BYTES + inside, mark

    def full(self, sectors: int) -> Iterator[tuple[int, bytes]]:
        """Yield what covers all sectors."""
        for first in range(0, sectors, _PIECE_SECTORS):
            yield self._put(first, min(_PIECE_SECTORS, sectors - first), version=2)

    def expected(self, first: int, count: int) -> bytes:
        """Return what so many sectors have to read as."""
        return b"".join(self._sectors.get(each, _ZEROS) for each in range(first, first + count))

    def _put(self, first: int, count: int, *, version: int) -> tuple[int, bytes]:
        for each in range(first, first + count):
            self._sectors[each] = self._marks.sector(Origin(self._volume, version, each))
        return first * SECTOR_BYTES, self.expected(first, count)


def check_extent(cycles: int, size_bytes: int) -> None:
    """Raise Invalid for more, or less, than an audit can be about."""
    if not 1 <= cycles <= CYCLES_MAX:
        raise Invalid(f"cycles {cycles}: expected 1 to {CYCLES_MAX}")
    if not SIZE_MIN <= size_bytes <= SIZE_MAX or size_bytes % SECTOR_BYTES:
        raise Invalid(
            f"size {size_bytes}: expected {SIZE_MIN} to {SIZE_MAX} bytes, a multiple of "
            f"{SECTOR_BYTES}"
        )
