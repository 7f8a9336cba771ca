"""An exporter and its daemon over a real socket: who is believed, and what a lost reply costs."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from scrubjay.base.errors import Conflict, Denied, NoSpace, NotFound, ScrubjayError, Unavailable
from scrubjay.base.ids import Entry, SegmentId, VolumeId
from scrubjay.base.units import MIB
from scrubjay.engine.lessor import Attachment, Checkpoint, Grant, Purged
from scrubjay.export import lockfile
from scrubjay.export.channel import Channel, receive, send
from scrubjay.export.lessor import Identity, RemoteLessor
from scrubjay.export.messages import (
    CHANNEL_VERSION,
    Attached,
    Commit,
    Committed,
    Done,
    Failed,
    FromDaemon,
    FromExporter,
    Hello,
    Message,
    Stop,
)
from scrubjay.export.sessions import Sessions
from tests.export.rig import FakeLeases, FakeVolume, until

_DECODER = msgspec.msgpack.Decoder(FromDaemon)
_VOLUME = VolumeId(uuid.UUID(int=5))
_TOKEN = bytes(range(32))


class _Stage:
    """One volume, whose exporter is this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "channel.sock"
        self.leases = FakeLeases(slots=32)
        self.leases.volumes[_VOLUME] = FakeVolume(1, 64 * MIB)
        self.leases.volumes[_VOLUME].epoch = 3
        self.poisoned: list[str] = []
        self.calls: list[Message] = []
        self.ended: list[ScrubjayError] = []
        self.lock = lockfile.take(self.lock_path(_VOLUME), epoch=3, token=_TOKEN)
        self.sessions: Sessions | None = self.serve()
        self.lessors: list[RemoteLessor] = []

    def lock_path(self, volume: VolumeId) -> Path:
        return self.folder / f"{volume}.lock"

    def serve(self) -> Sessions:
        return Sessions(
            self.path,
            self.leases,
            self.lock_path,
            on_poisoned=lambda _volume, reason: self.poisoned.append(reason),
        )

    def stop_serving(self) -> None:
        if self.sessions is not None:
            self.sessions.close()
            self.sessions = None

    def lessor(self, *, epoch: int = 3, token: bytes = _TOKEN) -> RemoteLessor:
        made = RemoteLessor(
            self.path,
            Identity(_VOLUME, epoch, token),
            on_call=self._obey,
            on_end=self.ended.append,
        )
        self.lessors.append(made)
        return made

    def close(self) -> None:
        for each in self.lessors:
            each.close("the test is over")
        self.stop_serving()
        os.close(self.lock)

    def _obey(self, channel: Channel[FromDaemon], call: FromDaemon) -> None:
        self.calls.append(call)
        channel.send(Done(id=call.id))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Stage]:
    """A daemon's channel, and a lock that this process holds."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    made = _Stage(Path())
    yield made
    made.close()


def _ids(grants: Sequence[Grant]) -> list[int]:
    return [grant.segment for grant in grants]


def test_lessor_attached_learns_its_volume_and_leases(stage: _Stage) -> None:
    """What the daemon says of volume, grants and groups arrives as it was said."""
    lessor = stage.lessor()
    attachment = lessor.attach(timeout_s=10)
    assert attachment == stage.leases.attachment(_VOLUME, 3)
    assert isinstance(attachment, Attachment)
    granted = lessor.lease(4)
    assert _ids(granted) == [1, 2, 3, 4]
    known = stage.leases.volumes[_VOLUME]
    assert [(grant.slot, grant.key) for grant in granted] == [
        (known.slots[each], known.keys[each]) for each in (1, 2, 3, 4)
    ]
    assert list(lessor.group(0)) == list(granted)
    assert _ids(lessor.lease(2)) == [5, 6]
    checkpoint = Checkpoint(Entry(77), 5, clean=False, live_sectors=9)
    lessor.commit(checkpoint, freed=[SegmentId(2)])
    assert known.checkpoint == checkpoint
    assert 2 not in known.slots
    purged = Purged(((SegmentId(3), 1 << 63 | 1),), 8, 9, 4096)
    for said in (replace(checkpoint, purged=purged), replace(checkpoint, purged=Purged())):
        lessor.commit(said, freed=[])
        assert known.checkpoint == said


def test_lessor_refusals_keep_their_kind(stage: _Stage) -> None:
    """A full pool is NoSpace on this side as well, with its message."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    stage.leases.refusal = NoSpace("pool: no slot is free", hint="destroy something")
    with pytest.raises(NoSpace, match="no slot is free"):
        lessor.lease(1)


def test_lease_whose_reply_was_lost_grants_the_same_again(stage: _Stage) -> None:
    """A daemon that dies between its commit and its reply has leased no segment in vain."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    assert _ids(lessor.lease(2)) == [1, 2]
    stage.leases.lease(_VOLUME, 3, count=3, above=SegmentId(2))  # the reply of this is lost
    assert _ids(lessor.lease(8)) == [3, 4, 5]
    assert _ids(lessor.lease(1)) == [6]


def test_lessor_daemon_away_calls_wait_for_the_next_one(stage: _Stage) -> None:
    """Lease and commit outlast the daemon: they return once the next one has answered."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    stage.stop_serving()
    leased: list[int] = []
    threads = [
        threading.Thread(target=lambda: leased.extend(_ids(lessor.lease(2)))),
        threading.Thread(target=lambda: lessor.commit(Checkpoint(Entry(1), 1, False, 1), freed=[])),
    ]
    for each in threads:
        each.start()
    assert all(each.is_alive() for each in threads)
    stage.sessions = stage.serve()
    for each in threads:
        each.join(timeout=30)
    assert leased == [1, 2]
    assert stage.leases.volumes[_VOLUME].checkpoint.root == 1


def test_lessor_daemon_dies_in_the_middle_of_a_commit_sends_it_again(stage: _Stage) -> None:
    """A commit without an answer is sent to the next daemon, the same, and only then returns."""
    stage.stop_serving()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(stage.path))
    listener.listen()
    lessor = stage.lessor()
    done = threading.Event()

    def run() -> None:
        lessor.attach(timeout_s=10)
        lessor.commit(Checkpoint(Entry(9), 4, False, 1), freed=[SegmentId(3)])
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    decoder = msgspec.msgpack.Decoder(FromExporter)
    seen: list[Message | None] = []
    for _ in range(2):
        connection, _ = listener.accept()
        with connection:
            hello = receive(connection, decoder)
            assert isinstance(hello, Hello)
            send(connection, _attached())
            seen.append(receive(connection, decoder))
            assert not done.is_set()
            if len(seen) == 2:
                send(connection, Committed(id=seen[1].id if seen[1] else 0, free_percent=50))
                thread.join(timeout=30)
    listener.close()
    assert done.is_set()
    first, second = seen
    assert isinstance(first, Commit)
    assert isinstance(second, Commit)
    assert (first.root, first.freed) == (second.root, second.freed) == (9, (3,))


def _attached() -> Attached:
    return Attached(
        volume=_VOLUME, name="v", lineage=1, branch=1, epoch=3, size_bytes=MIB, root=0, flushed=0,
        clean=True, live_sectors=0, next_segment=1,
    )  # fmt: skip


def test_lessor_replaced_by_another_attachment_ends(stage: _Stage) -> None:
    """Design 8.9: an exporter whose epoch is over hears so once, and every call raises it."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    stage.leases.volumes[_VOLUME].epoch = 4
    with pytest.raises(Conflict, match="epoch 3, expected 4"):
        lessor.lease(1)
    stage.stop_serving()
    stage.sessions = stage.serve()
    until(lambda: bool(stage.ended))
    assert isinstance(stage.ended[0], Conflict)
    with pytest.raises(Conflict):
        lessor.commit(Checkpoint(Entry(1), 1, False, 1), freed=[])


@pytest.mark.parametrize(
    ("epoch", "token"), [(3, bytes(32)), (2, _TOKEN), (4, _TOKEN)], ids=["token", "old", "new"]
)
def test_hello_of_a_stranger_is_denied(stage: _Stage, epoch: int, token: bytes) -> None:
    """Only who knows the token of the lock's holder, and its epoch, is told anything."""
    with pytest.raises(Denied):
        stage.lessor(epoch=epoch, token=token).attach(timeout_s=10)
    assert stage.leases.calls == []


def test_hello_of_another_process_is_denied(stage: _Stage) -> None:
    """The token alone is not enough: the lock must be held by the process that speaks."""
    child = os.fork()
    if not child:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(stage.path))
            send(connection, _hello())
            answer = receive(connection, _DECODER)
            os._exit(0 if isinstance(answer, Failed) and answer.code == "denied" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stage.leases.calls == []


def test_hello_without_the_lock_is_denied(stage: _Stage) -> None:
    """A process that let go of the lock speaks for nothing, whatever the file says."""
    os.close(stage.lock)
    try:
        with pytest.raises(Denied, match="not the holder"):
            stage.lessor().attach(timeout_s=10)
    finally:
        stage.lock = lockfile.take(stage.lock_path(_VOLUME), epoch=3, token=_TOKEN)


def _hello(*, version: int = CHANNEL_VERSION) -> Hello:
    return Hello(version=version, volume=_VOLUME, epoch=3, token=_TOKEN)


def _talk(stage: _Stage, *raw: bytes | Message) -> list[FromDaemon]:
    """Send things to the daemon, and return what it says until it closes."""
    answers = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(stage.path))
        try:
            for each in raw:
                if isinstance(each, Message):
                    send(connection, each)
                else:
                    connection.sendall(each)
            connection.shutdown(socket.SHUT_WR)
            while (answer := receive(connection, _DECODER)) is not None:
                answers.append(answer)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was faster
    return answers


@pytest.mark.parametrize(
    "hostile",
    [
        (b"\xff\xff\xff\xff",),
        (b"\x05\x00\x00\x00hello",),
        (b"GET / HTTP/1.1\r\n\r\n",),
        (Commit(root=1, flushed=1, clean=True, live_sectors=0, freed=(), filled=()),),
        (_hello(), b"\x01\x00\x00\x00\x00"),
        (_hello(), Stop(id=1)),
        (_hello(), _hello()),
    ],
    ids=["length", "garbage", "http", "no hello", "garbage later", "daemon's words", "hello twice"],
)
def test_exporter_hostile_loses_its_connection_only(
    stage: _Stage, hostile: tuple[bytes | Message, ...]
) -> None:
    """Whatever one connection says, the daemon serves the next one, and nothing was changed."""
    for answer in _talk(stage, *hostile):
        assert isinstance(answer, Attached | Failed)
    assert stage.leases.volumes[_VOLUME].checkpoint.root == 0
    lessor = stage.lessor()
    assert lessor.attach(timeout_s=10).epoch == 3
    assert _ids(lessor.lease(1)) == [1]


def test_hello_of_another_version_is_unavailable(stage: _Stage) -> None:
    """An exporter of another version is told so, and goes on serving meanwhile."""
    (answer,) = _talk(stage, _hello(version=99))
    assert isinstance(answer, Failed)
    assert answer.code == "unavailable"
    assert "version 99" in answer.message


def test_hello_again_replaces_the_earlier_connection(stage: _Stage) -> None:
    """Of one volume the last connection counts: a call on an earlier one is not obeyed."""
    assert stage.sessions is not None
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.settimeout(10)
        earlier.connect(str(stage.path))
        send(earlier, _hello())
        assert isinstance(receive(earlier, _DECODER), Attached)
        lessor = stage.lessor()
        lessor.attach(timeout_s=10)
        try:
            send(
                earlier, Commit(root=8, flushed=1, clean=True, live_sectors=0, freed=(), filled=())
            )
            assert receive(earlier, _DECODER) is None
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed already
    assert _ids(lessor.lease(1)) == [1]
    assert stage.leases.volumes[_VOLUME].checkpoint.root == 0
    assert len(stage.sessions.all()) == 1


def test_poisoned_medium_is_told_to_every_daemon(stage: _Stage) -> None:
    """I4: a failed sync reaches the daemon, and the one after it as well."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    lessor.poisoned("sync failed: I/O error")
    until(lambda: len(stage.poisoned) == 1)
    stage.stop_serving()
    stage.sessions = stage.serve()
    until(lambda: len(stage.poisoned) == 2)
    assert set(stage.poisoned) == {"sync failed: I/O error"}


def test_attach_without_a_daemon_is_unavailable(stage: _Stage) -> None:
    """An exporter that finds no daemon at its start gives up in a stated time."""
    stage.stop_serving()
    with pytest.raises(Unavailable, match="no answer"):
        stage.lessor().attach(timeout_s=0.05)


def test_lessor_closed_lets_go_of_who_waits(stage: _Stage) -> None:
    """Closing ends calls that wait for a daemon that does not come back."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    stage.stop_serving()
    heard: list[Exception] = []

    def wait() -> None:
        try:
            lessor.lease(1)
        except Unavailable as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    lessor.close("terminated")
    thread.join(timeout=30)
    assert "terminated" in str(heard[0])


def test_volume_gone_meanwhile_ends_its_exporter(stage: _Stage) -> None:
    """An exporter that comes back to find its volume destroyed is told to end."""
    lessor = stage.lessor()
    lessor.attach(timeout_s=10)
    stage.stop_serving()
    stage.leases.refusal = NotFound("volume 5: unknown")
    stage.sessions = stage.serve()
    until(lambda: bool(stage.ended))
    assert isinstance(stage.ended[0], NotFound)
