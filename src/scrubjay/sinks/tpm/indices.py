"""The two NV indices of a sink: read, overwritten, defined and removed, within one talk."""

from __future__ import annotations

import contextlib

from scrubjay.base.errors import Corrupt, Denied, NotFound, ScrubjayError
from scrubjay.base.ids import Epoch
from scrubjay.sinks.tpm.chip import Chip, Talk
from scrubjay.sinks.tpm.credentials import Credentials
from scrubjay.sinks.tpm.public import NV_ATTRIBUTES, NV_WRITTEN, NvPublic
from scrubjay.sinks.tpm.slot import SLOT_BYTES, Owners, Slot, dropping, empty, held, parse

__all__ = ["Indices"]


class Indices:
    """The slots of a sink, numbered 0 and 1."""

    def __init__(self, chip: Chip, own: Credentials) -> None:
        self._chip = chip
        self._own = own
        self.owners = Owners(own.sink_id, own.pool_id)
        self.publics = tuple(_public(index) for index in own.indices)

    def slots(self, talk: Talk) -> list[Slot]:
        """Return what both hold; NotFound or Denied where they are not as we defined them."""
        slots = []
        for public in self.publics:
            self._check(public)
            slots.append(parse(talk.read(public, self._own.auth), self.owners))
        return slots

    def write(self, talk: Talk, at: int, data: bytes) -> None:
        """Write a slot and read it back."""
        talk.write(self.publics[at], self._own.auth, data)
        self._read_back(talk, at, data)

    def erase(self, talk: Talk, at: int, epoch: Epoch) -> None:
        """Overwrite a slot twice, and note which epoch it held."""
        for data in (dropping(self.owners, epoch), empty(self.owners, epoch)):
            self.write(talk, at, data)

    def define(
        self, talk: Talk, owner_auth: bytes, first: tuple[Epoch, bytes], undo: contextlib.ExitStack
    ) -> None:
        """Define and fill both, the first epoch's key last; `undo` removes them."""
        for at, content in ((1, empty(self.owners, Epoch(0))), (0, held(self.owners, *first))):
            unwritten = NvPublic(self.publics[at].index, NV_ATTRIBUTES, b"", SLOT_BYTES)
            talk.define(unwritten, self._own.auth, owner_auth)
            undo.callback(self._remove, unwritten.index, owner_auth)
            talk.write(unwritten, self._own.auth, content)
            self._read_back(talk, at, content)

    def _read_back(self, talk: Talk, at: int, data: bytes) -> None:
        if talk.read(self.publics[at], self._own.auth) != data:
            raise Corrupt(
                f"sink {self._own.sink_id}: reads back something else, expected what it wrote"
            )

    def _remove(self, index: int, owner_auth: bytes) -> None:
        with contextlib.suppress(ScrubjayError), self._chip.talk(None) as talk:
            talk.undefine(self._chip.nv_public(index), owner_auth)

    def _check(self, public: NvPublic) -> None:
        """See that an index is as we defined it: no other may be read from or written to."""
        try:
            found = self._chip.nv_public(public.index)
        except NotFound as error:
            raise NotFound(
                f"sink {self._own.sink_id}: no NV index 0x{public.index:08x}, "
                "expected it in the TPM",
                hint="the TPM was cleared, and its keys are gone; a mirrored sink has them still",
            ) from error
        if found != public:
            raise Denied(
                f"sink {self._own.sink_id}: NV index 0x{public.index:08x} has attributes "
                f"0x{found.attributes:08x} and {found.size_bytes} bytes, expected "
                f"0x{public.attributes:08x} and {public.size_bytes}",
                hint="somebody else defined it anew: the key that was there is gone",
            )


def _public(index: int) -> NvPublic:
    return NvPublic(index, NV_ATTRIBUTES | NV_WRITTEN, b"", SLOT_BYTES)
