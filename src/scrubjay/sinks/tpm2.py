"""The `tpm2` sink: two NV indices of a TPM 2.0 (docs/format/keys.md, docs/rfcs/0002-tpm-sink.md).

Each index is a slot that holds an epoch's key or nothing, as in the file sink. To drop is to
overwrite, twice and with other bytes each time: a part that keeps the page of before, for a
power failure, loses that one too. The indices stay, so that the TPM can sign what they hold
now; removing them would wear its memory more, and nobody could sign that they are gone.

A command is done or not done when the power fails, as far as a TPM keeps its specification;
where it does not, the slot's digest shows it. The sink holds no state of its own, so a TPM
that was reset in the middle just goes on at the next command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self
from uuid import UUID

from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound
from scrubjay.base.ids import Epoch
from scrubjay.base.ports import Entropy
from scrubjay.sinks.attestation import Certified, Evidence
from scrubjay.sinks.budget import Budget
from scrubjay.sinks.locked import FileIo
from scrubjay.sinks.sink import Part, Worth, check_new
from scrubjay.sinks.tpm import credentials as files
from scrubjay.sinks.tpm.chip import Chip, Talk
from scrubjay.sinks.tpm.credentials import AUTH_BYTES, Credentials
from scrubjay.sinks.tpm.ground import assess_tpm, rotation_budget
from scrubjay.sinks.tpm.indices import Indices
from scrubjay.sinks.tpm.public import attestation_template, nv_indices_for, parse_ecc
from scrubjay.sinks.tpm.slot import HEAD_BYTES, SLOT_BYTES, Slot, State, held
from scrubjay.sinks.tpm.transport import DEFAULT_DEVICE, Transport, open_transport

__all__ = ["TpmSink"]

_CHALLENGE_BYTES_MAX = 32


class TpmSink:
    """Epoch keys in a TPM; the home holds the authorisation for them."""

    def __init__(
        self, file: FileIo, transport: Transport, entropy: Entropy, worth: Callable[[Chip], Worth]
    ) -> None:
        """Take over a file of credentials and its TPM; use `open` or `create`.

        NotFound where the TPM has no such indices: it was cleared, or is another one. Denied
        where they are somebody else's.
        """
        self._file = file
        self._own = files.read(file)
        self._chip = Chip(transport, entropy)
        self._indices = Indices(self._chip, self._own)
        self._read()
        self._worth = worth(self._chip)

    @classmethod
    def create(
        cls,
        path: Path,
        entropy: Entropy,
        *,
        sink_id: UUID,
        pool_id: UUID,
        epoch: Epoch,
        key: bytes,
        device: Path = DEFAULT_DEVICE,
        owner_auth: bytes = b"",
        policy: str = "",
        endurance_cycles: int = 0,
    ) -> Self:
        """Define the indices, store the key, and write the credentials to `path`.

        `owner_auth` is the TPM's owner authorisation, needed here and never kept. Conflict
        where an index of that number is there. What fails leaves nothing behind.
        """
        check_new(sink_id, {}, epoch, key)
        with contextlib.ExitStack() as undo:
            transport = open_transport(device)
            undo.callback(transport.close)
            chip = Chip(transport, entropy)
            with chip.primary(attestation_template(sink_id)) as (_, public):
                attestation_name = parse_ecc(public).name
            with chip.talk(None) as talk:
                own = files.fresh(
                    sink_id=sink_id,
                    pool_id=pool_id,
                    device=str(device),
                    indices=nv_indices_for(sink_id),
                    auth=entropy.token(AUTH_BYTES),
                    names=(talk.endorsement_name, attestation_name),
                    policy=policy,
                    endurance_cycles=endurance_cycles,
                )
                file = files.store(path, own)
                undo.callback(file.close)
                undo.callback(path.unlink, missing_ok=True)
                Indices(chip, own).define(talk, owner_auth, (epoch, key), undo)
            made = cls(file, transport, entropy, _assessor(own))
            undo.pop_all()
            return made

    @classmethod
    def open(cls, path: Path, entropy: Entropy) -> Self:
        """Open the sink whose credentials lie at `path`."""
        with contextlib.ExitStack() as undo:
            file, own = files.load(path)
            undo.callback(file.close)
            transport = open_transport(Path(own.device))
            undo.callback(transport.close)
            opened = cls(file, transport, entropy, _assessor(own))
            undo.pop_all()
            return opened

    @property
    def kind(self) -> str:
        """What kind of sink this is."""
        return "tpm2"

    @property
    def sink_id(self) -> UUID:
        """The id that the superblock, or a mirror, names."""
        return self._own.sink_id

    @property
    def pool_id(self) -> UUID:
        """The only pool that this sink serves."""
        return self._own.pool_id

    @property
    def attestation_name(self) -> bytes:
        """The name of the key that signs its evidence: note it where evidence is checked."""
        return self._own.attestation_name

    def epochs(self) -> tuple[Epoch, ...]:
        """Return the epochs whose keys it holds, ascending."""
        return tuple(sorted(self._held()))

    def key(self, epoch: Epoch) -> bytes:
        """Return the 32-byte key of an epoch; NotFound if not held, Corrupt if damaged."""
        slots = self._read()
        for slot in slots:
            if slot.state is State.HELD and slot.epoch == epoch:
                return slot.key
        missing = f"sink {self.sink_id}: epoch {epoch} not held"
        if all(slot.state is not State.HELD for slot in slots):
            raise Corrupt(f"{missing}, nor any other, expected its key")
        raise NotFound(f"{missing}, expected its key")

    def prepare(self, epoch: Epoch, key: bytes) -> None:
        """Store the fresh key of a new epoch in the empty index, and read it back."""
        with self._talk() as talk:
            slots = self._indices.slots(talk)
            known = {slot.epoch: slot.key for slot in slots if slot.state is State.HELD}
            check_new(self.sink_id, known, epoch, key)
            free = [at for at, slot in enumerate(slots) if slot.state is State.EMPTY]
            if not free:
                raise Conflict(
                    f"sink {self.sink_id}: no empty index, expected one",
                    hint="the last rotation was interrupted: open the pool anew, it settles that",
                )
            self._indices.write(talk, free[0], held(self._indices.owners, epoch, key))

    def drop(self, epoch: Epoch) -> None:
        """Overwrite the index of an epoch twice, and read back that it is empty."""
        with self._talk() as talk:
            slots = self._indices.slots(talk)
            holding = [at for at, slot in enumerate(slots) if slot.state is State.HELD]
            for at in holding:
                if slots[at].epoch != epoch:
                    continue
                if len(holding) == 1:
                    raise Conflict(
                        f"sink {self.sink_id}: epoch {epoch} is the last one, "
                        "expected another beside"
                    )
                self._indices.erase(talk, at, epoch)

    def scour(self) -> None:
        """Overwrite what an interrupted drop left; Corrupt if no epoch is held."""
        with self._talk() as talk:
            slots = self._indices.slots(talk)
            if all(slot.state is not State.HELD for slot in slots):
                raise Corrupt(f"sink {self.sink_id}: holds no epoch, expected one to keep")
            for at, slot in enumerate(slots):
                if slot.state is State.REMAINS:
                    self._indices.erase(talk, at, slot.epoch)

    def evidence(self, epoch: Epoch, challenge: bytes = b"") -> Evidence:
        """Have the TPM sign that it holds this epoch, and that the other index is empty.

        `challenge`, up to 32 bytes, is signed along: a digest of what the evidence is for.
        Conflict unless the epoch is held alone.
        """
        if len(challenge) > _CHALLENGE_BYTES_MAX:
            raise Invalid(f"challenge of {len(challenge)} bytes, expected at most 32")
        facts, indices = self._chip.facts(), self._chip.nv_indices()
        with (
            self._talk() as talk,
            self._chip.primary(attestation_template(self.sink_id)) as (handle, public),
        ):
            slots = self._indices.slots(talk)
            wanted = {State.HELD: epoch, State.EMPTY: None}
            found = {slot.state: at for at, slot in enumerate(slots)}
            if set(found) != set(wanted) or slots[found[State.HELD]].epoch != epoch:
                raise Conflict(
                    f"sink {self.sink_id}: within a rotation, expected epoch {epoch} alone"
                )
            name = parse_ecc(public).name
            stated = []
            for state, size_bytes in ((State.HELD, HEAD_BYTES), (State.EMPTY, SLOT_BYTES)):
                index = self._indices.publics[found[state]]
                signed = talk.certify(
                    (handle, name), index, self._own.auth, challenge=challenge, size=size_bytes
                )
                stated.append(Certified(index.encode(), signed.attest, signed.signature))
            return Evidence(
                sink_id=self.sink_id,
                pool_id=self.pool_id,
                epoch=epoch,
                held=stated[0],
                emptied=stated[1],
                attestation_public=public,
                endorsement_public=talk.endorsement_public,
                manufacturer=facts.manufacturer,
                vendor=facts.vendor,
                firmware=facts.firmware,
                indices=indices,
            )

    def signers(self) -> dict[UUID, bytes]:
        """Return the name of its signing key, under its own id."""
        return {self.sink_id: self.attestation_name}

    def attest(self, sink_id: UUID, epoch: Epoch, challenge: bytes) -> Evidence:
        """Return its evidence; NotFound for any id but its own."""
        if sink_id != self.sink_id:
            raise NotFound(f"sink {self.sink_id}: asked for sink {sink_id}, expected itself")
        return self.evidence(epoch, challenge)

    def destroy(self, owner_auth: bytes = b"") -> None:
        """Overwrite both indices and remove them: the sink was replaced, and holds nothing."""
        with self._talk() as talk:
            for at, slot in enumerate(self._indices.slots(talk)):
                self._indices.erase(talk, at, slot.epoch)
            for public in self._indices.publics:
                talk.undefine(public, owner_auth)

    def worth(self) -> Worth:
        """Say what overwriting is worth in this TPM, as far as anybody knows."""
        return self._worth

    def parts(self) -> list[Part]:
        """Return this sink: it is its only part."""
        with self._talk() as talk:
            slots = self._indices.slots(talk)
        remains = sum(slot.state is State.REMAINS for slot in slots)
        return [Part(self.kind, self.sink_id, self.worth(), self.epochs(), remains=remains)]

    def budget(self) -> Budget:
        """Say how often its memory bears a rotation."""
        return rotation_budget(self._own.endurance_cycles)

    def expect_in_place(self) -> None:
        """Raise Displaced, or Unavailable, unless the file of credentials is where it was.

        Without it, nobody gets at the indices again.
        """
        self._file.expect_in_place()

    def close(self) -> None:
        """Let go of the TPM and of the credentials."""
        self._chip.close()
        self._file.close()

    # --- leaves -----------------------------------------------------------------------

    def _talk(self) -> contextlib.AbstractContextManager[Talk]:
        self.expect_in_place()
        return self._chip.talk(self._own.endorsement_name)

    def _held(self) -> dict[Epoch, bytes]:
        held = [slot for slot in self._read() if slot.state is State.HELD]
        epochs = {slot.epoch: slot.key for slot in held}
        if len(epochs) < len(held):
            raise Corrupt(f"sink {self.sink_id}: epoch {held[0].epoch} twice, expected once")
        return epochs

    def _read(self) -> list[Slot]:
        with self._talk() as talk:
            return self._indices.slots(talk)


def _assessor(own: Credentials) -> Callable[[Chip], Worth]:
    return lambda chip: assess_tpm(chip.facts(), policy=own.policy)
