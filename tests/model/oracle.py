"""What a volume should hold, and marked bytes that say whose they are.

Every sector that the model writes repeats a token of 32 bytes: tenant, volume, number of
the write, LBA. So a byte that turns up where it does not belong is recognised: as
another tenant's, as an older version, or as garbage.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scrubjay.base.units import SECTOR_BYTES

__all__ = ["MAGIC", "ZEROS", "LeakError", "Oracle", "WrongError", "token"]

MAGIC = b"\xa5jaybird"
"""What no ciphertext and no metadata holds, but by chance of 2^-64 a byte (I2)."""
ZEROS = bytes(SECTOR_BYTES)
_TOKEN = struct.Struct("<8sHHIQ")
_TOKEN_BYTES = 32
_MARK_BYTES = 8
"""A digest, so that the meeting of two writes is not taken for a third one."""

Change = dict[int, bytes]
"""LBA -> what the sector holds afterwards."""


class WrongError(AssertionError):
    """A sector holds what it should not (I1, I4, I5)."""


class LeakError(WrongError):
    """A sector holds another volume's bytes (I1)."""


def token(*, tenant: int, volume: int, write: int, lba: int) -> bytes:
    """Return the 32 bytes that mark a sector."""
    text = _TOKEN.pack(MAGIC, tenant, volume, write, lba)
    return text + hashlib.blake2b(text, digest_size=_MARK_BYTES).digest()


@dataclass(slots=True)
class Oracle:
    """One volume: its durable state, and the requests since, in their order."""

    tenant: int
    volume: int
    now: Change = field(default_factory=dict)
    """What a read returns; sectors that are not in it are zeros."""
    durable: Change = field(default_factory=dict)
    """What was so at the last moment that a completed sync covers."""
    requests: list[Change] = field(default_factory=list)
    certain: bool = True
    """False from a crash until the volume was attached and looked at."""
    touched: set[int] = field(default_factory=set)
    """Every LBA that a request ever named."""
    writes: int = 0

    # --- what clients do ----------------------------------------------------------------

    def fresh(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return bytes to write there that nobody ever wrote before."""
        self.writes += 1
        first, skip = divmod(offset_bytes, SECTOR_BYTES)
        sectors = (skip + size_bytes + SECTOR_BYTES - 1) // SECTOR_BYTES
        whole = b"".join(
            token(tenant=self.tenant, volume=self.volume, write=self.writes, lba=lba)
            * (SECTOR_BYTES // _TOKEN_BYTES)
            for lba in range(first, first + sectors)
        )
        return whole[skip : skip + size_bytes]

    def change(self, offset_bytes: int, data: bytes) -> Change:
        """Return what a write of any range makes of the sectors that it touches."""
        change: Change = {}
        at = 0
        while at < len(data):
            lba, skip = divmod(offset_bytes + at, SECTOR_BYTES)
            piece = data[at : at + SECTOR_BYTES - skip]
            old = self.now.get(lba, ZEROS)
            change[lba] = old[:skip] + piece + old[skip + len(piece) :]
            at += len(piece)
        return change

    def apply(self, change: Change) -> None:
        """Note a request that was acknowledged."""
        assert self.certain
        self.requests.append(change)
        self.touched |= change.keys()
        self.now = {**self.now, **change}

    def started(self, change: Change) -> None:
        """Note a request of which nobody will know: the power fails while it is served."""
        self.requests.append(change)
        self.touched |= change.keys()
        self.certain = False

    def synced(self) -> None:
        """Note that everything acknowledged so far is durable."""
        assert self.certain
        self.durable = self.now
        self.requests = []

    # --- what is seen -------------------------------------------------------------------

    def expected(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return what a read of this range returns."""
        first, skip = divmod(offset_bytes, SECTOR_BYTES)
        last = (offset_bytes + size_bytes - 1) // SECTOR_BYTES
        whole = b"".join(self.now.get(lba, ZEROS) for lba in range(first, last + 1))
        return whole[skip : skip + size_bytes]

    def check(self, lba: int, found: bytes) -> None:
        """Compare one sector with what was written last (I1)."""
        self.check_own(lba, found)
        if found != self.now.get(lba, ZEROS):
            raise WrongError(self._versions(lba, found))

    def check_own(self, lba: int, found: bytes) -> None:
        """Refuse whatever is neither zeros nor this volume's own bytes of this LBA (I1)."""
        if found == self.now.get(lba, ZEROS):
            return
        for _, tenant, volume, _, where in filter(None, map(_parsed, _pieces(found))):
            if (tenant, volume) != (self.tenant, self.volume):
                raise LeakError(f"{self._name(lba)}: bytes of tenant {tenant} volume {volume}")
            if where != lba:
                raise WrongError(f"{self._name(lba)}: bytes of LBA {where}")

    def settle(self, image: Mapping[int, bytes]) -> bool:
        """Find out what a crash left; it must be the state after some whole requests.

        Return whether anything was lost.

        Stronger than I5 asks: not each sector by itself is old or new, but all together
        are as they were between two requests, or in the middle of one that took several
        records. What a flush covered is there (I4).
        """
        for lba, found in image.items():
            self.check_own(lba, found)
        state = dict(self.durable)
        differs: list[int] = []
        for request in [*self.requests, {}]:
            differs = [lba for lba in image if image[lba] != state.get(lba, ZEROS)]
            if all(image[lba] == request.get(lba) for lba in differs):
                lost = any(
                    image.get(lba, new) != new
                    for each in self.requests
                    for lba, new in each.items()
                )
                self.now = {**state, **{lba: image[lba] for lba in differs}}
                self.requests = [self.now]
                self.certain = True
                return lost
            state |= request
        worst = [lba for lba in image if image[lba] not in self._allowed(lba)]
        lba = (worst or differs)[0]
        raise WrongError(
            f"{self._versions(lba, image[lba])}; "
            f"{len(worst)} sectors are neither old nor new, {len(self.requests)} requests open"
        )

    def _allowed(self, lba: int) -> Iterable[bytes]:
        return [self.durable.get(lba, ZEROS), *(r[lba] for r in self.requests if lba in r)]

    def _versions(self, lba: int, found: bytes) -> str:
        expected = self.now.get(lba, ZEROS)
        return f"{self._name(lba)}: {_shown(found)}, expected {_shown(expected)}"

    def _name(self, lba: int) -> str:
        return f"tenant {self.tenant} volume {self.volume} LBA {lba}"


def _pieces(sector: bytes) -> Iterable[bytes]:
    return (sector[at : at + _TOKEN_BYTES] for at in range(0, SECTOR_BYTES, _TOKEN_BYTES))


def _parsed(piece: bytes) -> tuple[bytes, int, int, int, int] | None:
    """Return what a token says; None where it is none."""
    magic, tenant, volume, write, lba = _TOKEN.unpack_from(piece)
    whole = token(tenant=tenant, volume=volume, write=write, lba=lba)
    return (magic, tenant, volume, write, lba) if whole == piece else None


def _shown(sector: bytes) -> str:
    """Say which versions a sector is made of."""
    kinds: list[str] = []
    for piece in _pieces(sector):
        parsed = _parsed(piece)
        if parsed is not None:
            kind = f"write {parsed[3]}"
        elif not any(piece):
            kind = "zeros"
        else:
            kind = "other bytes"
        if kinds[-1:] != [kind]:
            kinds.append(kind)
    return " + ".join(kinds[:6])
