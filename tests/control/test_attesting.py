"""What a real TPM signs for an erasure, from the drop to a stranger without a TPM (I8)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from scrubjay.base.errors import NotFound, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.control.attesting import attests
from scrubjay.control.sink_status import sink_status
from scrubjay.evidence.report import Outcome, Report, Verdict
from scrubjay.evidence.statement import Forgotten, SinkDropped
from scrubjay.evidence.verify import verify
from scrubjay.sinks.attestation import Evidence
from scrubjay.sinks.attesting import Attesting, signers_of
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.membership import Member, RecordFile
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Sink
from scrubjay.sinks.tpm2 import TpmSink
from tests.control.rig import World
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, key_of
from tests.sinks.emulator import MISSING, PROGRAM, Emulator

FIRST = Epoch(1)

pytestmark = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=MISSING)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A TPM that can be thrown away."""
    emulator = Emulator()
    yield emulator
    emulator.close()


class Members:
    """A mirror's members: TPMs by their sockets, and files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, member: Member) -> Path:
        return self._folder / f"{member.kind}.{member.number}"

    def open(self, member: Member) -> Sink:
        """Open a member."""
        if member.kind == "tpm2":
            return TpmSink.open(self._path(member), SeededEntropy(2))
        return FileSink.open(self._path(member), SeededEntropy(2))

    def make(
        self, member: Member, *, sink_id: UUID, pool_id: UUID, epoch: Epoch, key: bytes
    ) -> Sink:
        """Make a member."""
        if member.kind == "tpm2":
            return TpmSink.create(
                self._path(member), SeededEntropy(1), sink_id=sink_id, pool_id=pool_id,
                epoch=epoch, key=key, device=Path(member.where),
            )  # fmt: skip
        return FileSink.create(
            self._path(member), SeededEntropy(1), sink_id=sink_id, pool_id=pool_id,
            epoch=epoch, key=key,
        )  # fmt: skip


def single(folder: Path, emulator: Emulator) -> TpmSink:
    """Make a tpm2 sink."""
    return TpmSink.create(
        folder / "tpm", SeededEntropy(1), sink_id=SINK, pool_id=POOL, epoch=FIRST,
        key=key_of(FIRST), device=emulator.socket,
    )  # fmt: skip


def mirror(folder: Path, *places: tuple[str, str]) -> MirroredSink:
    """Make a mirror on these (kind, where)."""
    return MirroredSink.create(
        RecordFile(folder / "mirror"),
        Members(folder),
        mirror_id=SINK,
        pool_id=POOL,
        places=list(places),
        epoch=FIRST,
        key=key_of(FIRST),
    )


def opened(folder: Path, sink: Sink) -> World:
    """Make a home with this sink, and a tenant."""
    world = World.make(folder, sink=sink)
    world.tenants.create("acme")
    return world


def destroyed(world: World) -> bytes:
    """Destroy a volume; return its bundle."""
    world.written("doomed", tenant="acme")
    world.destroy("doomed")
    world.forget()
    issued = world.certificates.page(after=b"", limit=9)[-1]
    return world.certificates.bundle(issued)


def checked(bundle: bytes, world: World, *keys: str) -> Report:
    """Verify with nothing but the file, the log's key, and names of sinks' keys."""
    return verify(bundle, str(world.log.key), attests=attests, sink_keys=keys)


def sinks_of(report: Report) -> tuple[SinkDropped, ...]:
    """Return the sinks that a certificate tells of."""
    (predicate,) = report.stages
    assert isinstance(predicate, Forgotten)
    return predicate.destruction.sinks


def test_tpm_signs_for_an_erasure_and_is_believed_without_it(
    tmp_path: Path, emulator: Emulator
) -> None:
    """The TPM is made a new one before the stranger looks."""
    sink = single(tmp_path, emulator)
    world = opened(tmp_path, sink)
    name = sink.attestation_name.hex()
    bundle = destroyed(world)
    sink.close()
    emulator.clear()
    report = checked(bundle, world, name)
    assert report.failed == ()
    assert report.verdict is Verdict.CONDITIONAL  # it is an emulator
    said = report.check("sink")
    assert said.outcome is Outcome.PASSED
    assert "one index holds epoch 2" in said.sentence
    assert "epoch 1 was dropped from it last" in said.sentence
    assert name in said.sentence
    world.close()


def test_tpm_signs_anew_for_each_certificate(tmp_path: Path, emulator: Emulator) -> None:
    """The word of one erasure is none for the next."""
    sink = single(tmp_path, emulator)
    world = opened(tmp_path, sink)
    words = [sinks_of(checked(destroyed(world), world))[0].attestation for _ in range(2)]
    assert None not in words
    assert words[0] != words[1]
    sink.close()
    world.close()


def test_member_of_a_mirror_signs_under_its_own_id(tmp_path: Path, emulator: Emulator) -> None:
    """Its key is shown beforehand, and the member beside it signs nothing."""
    sink = mirror(tmp_path, ("tpm2", str(emulator.socket)), ("file", "there"))
    world = opened(tmp_path, sink)
    status = sink_status(sink, epoch=FIRST, created_at=world.keeper.now(), now=world.keeper.now())
    name = status.members[0].key
    assert [bool(each.key) for each in status.members] == [True, False]
    assert status.key == ""
    report = checked(destroyed(world), world, name)
    assert report.failed == ()
    told = {each.kind: each for each in sinks_of(report)}
    assert told["tpm2"].attestation is not None
    assert told["tpm2"].key == name
    assert (told["file"].key, told["file"].attestation) == (None, None)
    assert str(told["tpm2"].id) in report.check("sink").sentence
    sink.close()
    world.close()


@pytest.fixture
def second() -> Iterator[Emulator]:
    """Another one."""
    emulator = Emulator()
    yield emulator
    emulator.close()


def test_each_tpm_of_a_mirror_signs_with_its_own_key(
    tmp_path: Path, emulator: Emulator, second: Emulator
) -> None:
    """Of two, both are carried, and an auditor is to have been given both names."""
    sink = mirror(tmp_path, *(("tpm2", str(each.socket)) for each in (emulator, second)))
    names = {name.hex() for name in sink.signers().values()}
    assert len(names) == 2
    world = opened(tmp_path, sink)
    bundle = destroyed(world)
    report = checked(bundle, world, *names)
    assert report.failed == ()
    assert {each.key for each in sinks_of(report)} == names
    assert report.check("sink").sentence.count("one index holds epoch 2") == 2
    assert checked(bundle, world, min(names)).failed == ("sink key",)
    sink.close()
    world.close()


def test_mirror_asks_no_member_that_signs_nothing(tmp_path: Path, emulator: Emulator) -> None:
    """Nor one that it has not."""
    sink = mirror(tmp_path, ("tpm2", str(emulator.socket)), ("file", "there"))
    assert isinstance(sink, Attesting)
    (signer,) = signers_of(sink)
    others = {each.sink_id for each in sink.parts()} - {signer}
    for each in (*others, SINK):
        with pytest.raises(NotFound):
            sink.attest(each, FIRST, b"")
    sink.close()


def test_tpm_that_cannot_sign_keeps_no_certificate_back(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is gone all the same; the certificate says that nothing was signed."""
    sink = single(tmp_path, emulator)
    world = opened(tmp_path, sink)
    monkeypatch.setattr(TpmSink, "evidence", _fails)
    with capture_logs() as logs:
        report = checked(destroyed(world), world)
    assert report.failed == ()
    (told,) = sinks_of(report)
    assert (told.key, told.attestation) == (sink.attestation_name.hex(), None)
    assert any("signed nothing" in each for each in report.remarks)
    assert [each["event"] for each in logs].count("sink.unattested") == 1
    sink.close()
    world.close()


def test_word_of_a_tpm_that_does_not_verify_is_not_carried(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that signs over another challenge, as a TPM's interposer could."""
    sink = single(tmp_path, emulator)
    world = opened(tmp_path, sink)
    honest = TpmSink.evidence

    def elsewhere(of: TpmSink, epoch: Epoch, challenge: bytes = b"") -> Evidence:
        return honest(of, epoch, challenge[::-1])

    monkeypatch.setattr(TpmSink, "evidence", elsewhere)
    report = checked(destroyed(world), world)
    assert report.failed == ()
    assert sinks_of(report)[0].attestation is None
    sink.close()
    world.close()


def _fails(*_: object) -> Evidence:
    raise Unavailable("tpm: busy, expected an answer")
