"""The TPM sink against swtpm: what crosses the bus, whose indices, and what goes wrong."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    NotFound,
    ScrubjayError,
    Unavailable,
)
from scrubjay.base.ids import Epoch
from scrubjay.sinks.attestation import attestation_name, verify_attestation
from scrubjay.sinks.locked import LockedFile
from scrubjay.sinks.sink import Grade
from scrubjay.sinks.tpm import credentials as files
from scrubjay.sinks.tpm.chip import Chip, Talk
from scrubjay.sinks.tpm.public import NV_ATTRIBUTES, NV_WRITTEN, NvPublic, nv_indices_for
from scrubjay.sinks.tpm.session import PASSWORD_SESSION
from scrubjay.sinks.tpm.slot import SLOT_BYTES, Owners, empty
from scrubjay.sinks.tpm.transport import (
    DeviceTransport,
    SocketTransport,
    Transport,
    open_transport,
)
from scrubjay.sinks.tpm2 import TpmSink
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, SOMEWHERE, Power, key_of
from tests.sinks.emulator import PROGRAM
from tests.sinks.rigs import FIRST, Tpm

pytestmark = pytest.mark.real(PROGRAM)
NEW = Epoch(2)
GUESSES = 40


@pytest.fixture
def tpm() -> Iterator[Tpm]:
    """A TPM and a home in which the sink of epoch 1 was made."""
    made = Tpm(Power())
    made.make(SINK, key_of(FIRST))
    yield made
    made.close()


@contextlib.contextmanager
def other_program(tpm: Tpm) -> Iterator[Chip]:
    """Use the same TPM while the sink is closed: swtpm serves one program at a time."""
    made = Chip(SocketTransport(tpm.emulator.socket), SeededEntropy(7))
    yield made
    made.close()


class Tapped:
    """A transport that records everything, and may answer itself or change an answer."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.bytes = b""
        self.answer: Callable[[bytes], bytes | None] = lambda _command: None
        self.change: Callable[[bytes, bytes], bytes] = lambda _command, answer: answer

    def transact(self, command: bytes) -> bytes:
        """Pass it on."""
        if (own := self.answer(command)) is not None:
            return own
        answer = self.change(command, self._inner.transact(command))
        self.bytes += command + answer
        return answer

    def close(self) -> None:
        """Let go."""
        self._inner.close()


@contextlib.contextmanager
def tapped(tpm: Tpm) -> Iterator[tuple[TpmSink, Tapped]]:
    """Open the sink through a tap."""
    tap = Tapped(SocketTransport(tpm.emulator.socket))
    file = LockedFile.open(tpm.path)
    sink = TpmSink(file, tap, SeededEntropy(2), lambda _: SOMEWHERE)
    yield sink, tap
    sink.close()


def credentials(tpm: Tpm) -> files.Credentials:
    """Return what the home keeps."""
    io, own = files.load(tpm.path)
    io.close()
    return own


def rewrite(tpm: Tpm, **changes: object) -> None:
    """Put other credentials into the home."""
    own = msgspec.structs.replace(credentials(tpm), **changes)
    tpm.path.unlink()
    files.store(tpm.path, own).close()


def test_tpm_sink_shows_no_secret_on_the_bus(tpm: Tpm) -> None:
    """Who records the bus sees neither an epoch's key nor the authorisation (I2)."""
    auth = credentials(tpm).auth
    with tapped(tpm) as (sink, tap):
        sink.prepare(NEW, key_of(NEW))
        assert sink.key(NEW) == key_of(NEW)
        sink.drop(FIRST)
        sink.evidence(NEW)
    assert len(tap.bytes) > 5000
    for secret in (key_of(FIRST), key_of(NEW), auth):
        assert not any(secret[at : at + 8] in tap.bytes for at in range(24))


def test_tpm_sink_made_shows_no_secret_on_the_bus(
    tmp_path: Path, tpm: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it is made, either."""
    tap = Tapped(SocketTransport(tpm.emulator.socket))
    monkeypatch.setattr("scrubjay.sinks.tpm2.open_transport", lambda _path: tap)
    sink = TpmSink.create(
        tmp_path / "other",
        SeededEntropy(3),
        sink_id=UUID(int=99),
        pool_id=POOL,
        epoch=FIRST,
        key=key_of(FIRST),
        device=tpm.emulator.socket,
    )
    sink.close()
    io, own = files.load(tmp_path / "other")
    io.close()
    for secret in (key_of(FIRST), own.auth):
        assert secret not in tap.bytes


@pytest.mark.parametrize("code", [0x137, 0x14E, 0x176, 0x131])
def test_tpm_sink_believes_no_answer_that_was_changed(tpm: Tpm, code: int) -> None:
    """Who sits on the bus and changes an answer is found out, or refused."""

    def flip(command: bytes, answer: bytes) -> bytes:
        if int.from_bytes(command[6:10]) != code or len(answer) < 40:
            return answer
        at = len(answer) - 1 if code in {0x137, 0x14E} else 30  # else in a public area, or a nonce
        return answer[:at] + bytes((answer[at] ^ 1,)) + answer[at + 1 :]

    with tapped(tpm) as (sink, tap):
        tap.change = flip
        with pytest.raises((Corrupt, Denied)):
            sink.prepare(NEW, key_of(NEW))


def test_tpm_sink_of_another_tpm_is_denied(tpm: Tpm) -> None:
    """A TPM with another endorsement key gets neither the authorisation nor a key."""
    rewrite(tpm, endorsement_name=b"\0\x0b" + bytes(32))
    with pytest.raises(Denied, match="endorsement key"):
        tpm.open()


def test_tpm_sink_after_the_tpm_was_reset_to_its_makers_state_says_so(tpm: Tpm) -> None:
    """A new or manufactured-anew TPM is another one."""
    tpm.emulator.clear()
    with pytest.raises(Denied, match="endorsement key") as caught:
        tpm.open()
    assert "another TPM" in caught.value.hint


def test_tpm_sink_after_a_clear_says_that_the_keys_are_gone(tpm: Tpm) -> None:
    """TPM2_Clear takes the owner's indices: that is told, with where the keys may still be."""
    with other_program(tpm) as chip:
        chip.run(0x126, (0x4000000A,), sessions=PASSWORD_SESSION, what="Clear")
    with pytest.raises(NotFound, match="no NV index") as caught:
        tpm.open()
    assert "cleared" in caught.value.hint
    assert "mirrored" in caught.value.hint


def test_tpm_sink_whose_index_somebody_else_defined_is_denied(tpm: Tpm) -> None:
    """An index that anybody may read gets no key from us."""
    first, _ = nv_indices_for(SINK)
    with other_program(tpm) as chip, chip.talk(None) as talk:
        talk.undefine(NvPublic(first, NV_ATTRIBUTES | NV_WRITTEN, b"", SLOT_BYTES), b"")
        theirs = NvPublic(first, NV_ATTRIBUTES | 1 << 17, b"", SLOT_BYTES)
        talk.define(theirs, credentials(tpm).auth, b"")
    with pytest.raises(Denied, match="attributes") as caught:
        tpm.open()
    assert "somebody else" in caught.value.hint


def test_tpm_sink_with_a_wrong_authorisation_is_denied(tpm: Tpm) -> None:
    """An old copy of the home, or another's, opens nothing."""
    rewrite(tpm, auth=bytes(31) + b"\1")
    with pytest.raises(Denied, match="wrong authorisation"):
        tpm.open()


def test_tpm_sink_takes_no_part_in_the_lock_out(tpm: Tpm) -> None:
    """Wrong guesses, at ours or at another's, lock nobody out of the sink."""
    own = credentials(tpm)
    ours = NvPublic(own.indices[0], NV_ATTRIBUTES | NV_WRITTEN, b"", SLOT_BYTES)
    guarded = NvPublic(0x01800000, NV_ATTRIBUTES & ~(1 << 25), b"", 8)
    with other_program(tpm) as chip, chip.talk(None) as talk:
        talk.define(guarded, b"right", b"")
        for _ in range(GUESSES):
            with pytest.raises(Denied):
                talk.read(ours, b"wrong")
        said = {_write_said(talk, guarded) for _ in range(GUESSES)}
    assert "wait for its recovery time, or: tpm2_dictionarylockout --clear-lockout" in said
    sink = tpm.open()
    sink.prepare(NEW, key_of(NEW))
    assert sink.epochs() == (1, 2)
    sink.close()


def _write_said(talk: Talk, public: NvPublic) -> str:
    """Guess at an index's authorisation; return the hint of the refusal."""
    with pytest.raises(ScrubjayError) as caught:
        talk.write(public, b"wrong", bytes(8))
    return caught.value.hint


def test_tpm_sink_index_is_read_by_nobody_else(tpm: Tpm) -> None:
    """The owner may remove an index, and not read it; platform and others neither."""
    own = credentials(tpm)
    with other_program(tpm) as chip:
        assert set(own.indices) <= set(chip.nv_indices())
        found = chip.nv_public(own.indices[0])
        assert found.attributes == 1 << 2 | 1 << 12 | 1 << 18 | 1 << 25 | 1 << 29
        for holder in (0x40000001, 0x4000000C, own.indices[0]):
            with pytest.raises(Denied):
                chip.run(
                    0x14E,
                    (holder, own.indices[0]),
                    SLOT_BYTES.to_bytes(2) + bytes(2),
                    sessions=PASSWORD_SESSION,
                    what="NV_Read",
                )


def test_tpm_sink_goes_on_after_the_tpm_was_reset(tpm: Tpm) -> None:
    """A TPM that went away in the middle is an error; opened anew, nothing is lost."""
    sink = tpm.open()
    tpm.emulator.restart()
    with pytest.raises(Unavailable):
        sink.prepare(NEW, key_of(NEW))
    sink.close()
    again = tpm.open()
    assert (again.epochs(), again.key(FIRST)) == ((1,), key_of(FIRST))
    again.close()


@pytest.mark.parametrize("code", [0x922, 0x920, 0x921, 0x908, 0x90A, 0x923, 0x101])
def test_tpm_sink_with_a_busy_tpm_is_unavailable_and_loses_nothing(tpm: Tpm, code: int) -> None:
    """What may pass is Unavailable; the same call done again does it."""
    with tapped(tpm) as (sink, tap):
        refused = (0x8001).to_bytes(2) + (10).to_bytes(4) + code.to_bytes(4)
        tap.answer = lambda command: refused if command[6:10] == bytes.fromhex("00000131") else None
        with pytest.raises(Unavailable):
            sink.prepare(NEW, key_of(NEW))
        tap.answer = lambda _command: None
        sink.prepare(NEW, key_of(NEW))
        assert sink.epochs() == (1, 2)


def test_tpm_sink_is_open_once_at_a_time(tpm: Tpm) -> None:
    """Two daemons do not share a sink."""
    sink = tpm.open()
    with pytest.raises(Conflict, match="in use"):
        tpm.open()
    sink.close()
    tpm.open().close()


def test_tpm_sink_made_where_an_index_is_there_leaves_nothing(tpm: Tpm, tmp_path: Path) -> None:
    """Nobody's index is taken, and what was begun is undone."""
    with pytest.raises(Conflict, match="an index of this number"):
        TpmSink.create(
            tmp_path / "twin",
            SeededEntropy(3),
            sink_id=SINK,
            pool_id=POOL,
            epoch=FIRST,
            key=key_of(FIRST),
            device=tpm.emulator.socket,
        )
    assert not (tmp_path / "twin").exists()
    sink = tpm.open()
    assert sink.key(FIRST) == key_of(FIRST)
    sink.close()


def test_tpm_sink_destroyed_leaves_no_index(tpm: Tpm) -> None:
    """One that was replaced is overwritten and removed."""
    sink = tpm.open()
    before = credentials_indices(sink)
    sink.destroy()
    sink.close()
    with other_program(tpm) as chip:
        assert not set(before) & set(chip.nv_indices())


def credentials_indices(sink: TpmSink) -> tuple[int, int]:
    """Return the numbers of its indices."""
    return nv_indices_for(sink.sink_id)


def test_tpm_sink_cut_between_its_overwrites_keeps_no_key(tpm: Tpm) -> None:
    """Half a drop is finished by scouring, and the evidence still names the epoch."""
    own = credentials(tpm)
    sink = tpm.open()
    sink.prepare(NEW, key_of(NEW))
    sink.close()
    half = b"SJDROP1\0" + empty(Owners(SINK, POOL), FIRST)[8:48] + b"\xff" * 64
    with other_program(tpm) as chip, chip.talk(None) as talk:
        talk.write(NvPublic(own.indices[0], NV_ATTRIBUTES | NV_WRITTEN, b"", 112), own.auth, half)
    sink = tpm.open()
    assert sink.epochs() == (2,)
    with pytest.raises(Conflict, match="no empty index"):
        sink.prepare(Epoch(3), key_of(3))
    sink.scour()
    evidence = sink.evidence(NEW)
    assert verify_attestation(evidence, attestation_name=sink.attestation_name).dropped == 1
    sink.close()


def test_tpm_sink_damaged_is_not_overwritten(tpm: Tpm) -> None:
    """With no epoch held nothing is scoured: what lies there may be the key, torn (Corrupt)."""
    own = credentials(tpm)
    with other_program(tpm) as chip, chip.talk(None) as talk:
        talk.write(
            NvPublic(own.indices[0], NV_ATTRIBUTES | NV_WRITTEN, b"", 112), own.auth, b"x" * 112
        )
    sink = tpm.open()
    assert sink.epochs() == ()
    for deed in (sink.scour, lambda: sink.key(FIRST)):
        with pytest.raises(Corrupt):
            deed()
    sink.close()


# --- evidence ---------------------------------------------------------------------------


def test_tpm_sink_evidence_verifies_without_the_tpm(tpm: Tpm) -> None:
    """After a rotation the TPM signs that the new epoch is held and the old index is empty (I8)."""
    sink = tpm.open()
    first = sink.evidence(FIRST)
    pinned = sink.attestation_name
    assert verify_attestation(first, attestation_name=pinned).dropped == 0
    sink.prepare(NEW, key_of(NEW))
    with pytest.raises(Conflict, match="within a rotation"):
        sink.evidence(NEW)
    sink.drop(FIRST)
    with pytest.raises(Conflict):
        sink.evidence(FIRST)
    with pytest.raises(Invalid):
        sink.evidence(NEW, b"x" * 33)
    evidence = sink.evidence(NEW, b"certificate 7")
    sink.close()
    carried = msgspec.json.decode(msgspec.json.encode(evidence), type=type(evidence))
    proven = verify_attestation(carried, attestation_name=pinned, challenge=b"certificate 7")
    assert (proven.epoch, proven.dropped) == (2, 1)
    assert (evidence.manufacturer, evidence.vendor) == ("IBM", "SW   TPM")
    assert set(nv_indices_for(SINK)) <= set(evidence.indices)
    assert attestation_name(carried) == pinned
    assert not any(key_of(epoch) in msgspec.msgpack.encode(carried) for epoch in (1, 2))


def test_tpm_sink_signs_with_one_key_as_long_as_the_tpm_is(tpm: Tpm) -> None:
    """The key that is pinned signs after a restart as well."""
    before = tpm.open()
    name = attestation_name(before.evidence(FIRST))
    before.close()
    tpm.emulator.restart()
    after = tpm.open()
    assert attestation_name(after.evidence(FIRST)) == name == after.attestation_name
    after.close()


def test_tpm_sink_in_an_emulator_is_conditional(tpm: Tpm) -> None:
    """Swtpm's memory is a file of the host."""
    sink = TpmSink.open(tpm.path, SeededEntropy(2))
    assert sink.worth().grade is Grade.CONDITIONAL
    assert "swtpm" in sink.worth().place
    sink.close()


# --- the way to it ----------------------------------------------------------------------


def test_transport_without_a_tpm_says_what_is_missing(tmp_path: Path) -> None:
    """No device, no access, and nobody listening are told apart."""
    with pytest.raises(NotFound, match="expected a TPM"):
        open_transport(tmp_path / "tpmrm0")
    (tmp_path / "file").touch(mode=0o600)
    with pytest.raises(Invalid, match="no device and no socket"):
        open_transport(tmp_path / "file")
    with pytest.raises(Unavailable):
        DeviceTransport(Path("/dev/null")).transact(bytes(10))


def test_tpm_answers_facts_and_lists_indices(tpm: Tpm) -> None:
    """Who it is comes from the TPM itself."""
    with other_program(tpm) as chip:
        facts = chip.facts()
        assert facts.manufacturer == "IBM"
        assert facts.firmware
        assert chip.nv_indices() == sorted(chip.nv_indices())
        with pytest.raises(NotFound):
            chip.nv_public(0x01999999)
