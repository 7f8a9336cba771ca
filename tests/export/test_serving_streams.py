"""Random streams of requests, split anywhere, against the slow parser and a bytearray (I1).

`nbd.requests` tells what a stream asks for, without a buffer, a batch or a shortcut; the
oracle does that to a bytearray. The connection must answer every request alike, however
the stream was cut into receives, and leave the same bytes behind.
"""

from dataclasses import dataclass, field
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scrubjay.base.units import KIB, MIB, SECTOR_BYTES
from scrubjay.nbd import wire
from scrubjay.nbd.exports import SERVED
from scrubjay.nbd.replies import DISCONNECT
from scrubjay.nbd.requests import Broken, Disconnected, Payload, Refused, Request, Requests
from scrubjay.nbd.transmission import DRAIN_BYTES_MAX, Rules
from scrubjay.nbd.wire import Cookie
from tests.export.volume import Answer, Talk, serving

SIZE_BYTES = 3 * MIB
HOLE = wire.STATE_HOLE | wire.STATE_ZERO
EXTENTS_MAX = 4096


class Oracle:
    """What the volume should hold, and how each request should have ended."""

    def __init__(self, rules: Rules) -> None:
        self.image = bytearray(SIZE_BYTES)
        self.mapped: set[int] = set()
        self.answers: dict[Cookie, Answer] = {}
        self.unfinished: Request | None = None
        """A write whose payload the stream does not bring whole,"""
        self.arrived = bytearray()
        """and what there was of it."""
        self._requests = Requests(rules, size_bytes=SIZE_BYTES)

    def feed(self, stream: bytes) -> None:
        """Do what a stream asks for."""
        for event in self._requests.feed(stream):
            match event:
                case Refused(_, cookie, error):
                    self.answers[cookie] = Answer(error)
                case Payload(cookie, _, data, last):
                    self.arrived += data
                    if last:
                        assert self.unfinished is not None
                        self._put(self.unfinished.offset, bytes(self.arrived))
                        self.answers[cookie] = Answer(0)
                        self.unfinished = None
                case Request():
                    self._do(event)
                case Disconnected() | Broken():
                    return

    def allows(self, found: bytes) -> bool:
        """Whether the volume may hold this: each sector of an unfinished write is old or new."""
        if self.unfinished is None:
            return found == self.image
        old, start = bytes(self.image), self.unfinished.offset
        self._put(start, bytes(self.arrived))
        new, end = self.image, start + len(self.arrived)
        for at in range(0, SIZE_BYTES, SECTOR_BYTES):
            sector = slice(at, at + SECTOR_BYTES)
            whole = at + SECTOR_BYTES <= end or end == start + self.unfinished.length
            if found[sector] != old[sector] and not (whole and found[sector] == new[sector]):
                return False
        return True

    def _do(self, request: Request) -> None:
        offset, length, flags = request.offset, request.length, request.flags
        answer = Answer(0)
        match request.command:
            case wire.CMD_READ:
                answer.data = bytes(self.image[offset : offset + length])
            case wire.CMD_WRITE:
                self.unfinished = request
                self.arrived.clear()
                return
            case wire.CMD_WRITE_ZEROES if flags & wire.CMD_FLAG_NO_HOLE:
                if flags & wire.CMD_FLAG_FAST_ZERO:
                    answer.error = wire.ENOTSUP
                else:
                    self._put(offset, bytes(length))
            case wire.CMD_WRITE_ZEROES:
                self._put(offset, bytes(length))
                self.mapped -= _whole_sectors(offset, length)
            case wire.CMD_TRIM:
                for sector in _whole_sectors(offset, length):
                    at = sector * SECTOR_BYTES
                    self.image[at : at + SECTOR_BYTES] = bytes(SECTOR_BYTES)
                    self.mapped.discard(sector)
            case wire.CMD_BLOCK_STATUS:
                answer.extents = self._extents(offset, length, flags)
            case _:
                pass
        self.answers[request.cookie] = answer

    def _put(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.image[offset:end] = data
        self.mapped.update(range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))

    def _extents(self, offset: int, length: int, flags: int) -> tuple[tuple[int, int], ...]:
        found: list[tuple[int, int]] = []
        at, end = offset, offset + length
        while at < end:
            state = 0 if at // SECTOR_BYTES in self.mapped else HOLE
            size = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES) - at
            if found and found[-1][1] == state:
                found[-1] = (found[-1][0] + size, state)
            else:
                found.append((size, state))
            at += size
        return tuple(found[: 1 if flags & wire.CMD_FLAG_REQ_ONE else EXTENTS_MAX])


def _whole_sectors(offset: int, length: int) -> set[int]:
    return set(range(-(-offset // SECTOR_BYTES), (offset + length) // SECTOR_BYTES))


@dataclass(frozen=True)
class Op:
    """A request as the client means it."""

    command: int
    offset: int
    length: int
    flags: int = 0


@dataclass(frozen=True)
class Ending:
    """How a stream ends: these bytes less at its end, then these more."""

    cut: int = 0
    tail: bytes = field(default=b"", repr=False)


SECTORS = SIZE_BYTES // SECTOR_BYTES
aligned = st.builds(lambda n: n * SECTOR_BYTES, st.integers(0, SECTORS - 1))
offsets = st.one_of(
    aligned,
    aligned,
    st.integers(0, SIZE_BYTES),
    st.integers(0, 5 * SECTOR_BYTES),
    st.integers(SIZE_BYTES - 9000, SIZE_BYTES + 5000),
    st.sampled_from([2**32, 2**63, 2**64 - 1]),
)
lengths = st.one_of(
    st.builds(lambda n: n * SECTOR_BYTES, st.integers(1, 40)),
    st.builds(lambda n: n * SECTOR_BYTES, st.integers(100, 400)),
    st.integers(0, 3 * SECTOR_BYTES),
    st.integers(0, 3 * SECTOR_BYTES),
    st.integers(100 * KIB, 1600 * KIB),
)
flags = st.one_of(st.just(0), st.just(0), st.integers(0, 31), st.sampled_from([1 << 7, 0xFFFF]))
commands = st.one_of(
    st.sampled_from([wire.CMD_READ, wire.CMD_WRITE]),
    st.sampled_from([wire.CMD_READ, wire.CMD_WRITE]),
    st.sampled_from([3, 4, 5, 6, 7]),
    st.sampled_from([3, 4, 5, 6, 7, 8, 200]),
)


def _op(command: int, offset: int, length: int, flags: int) -> Op:
    return Op(command, 0, 0, flags) if command == 3 else Op(command, offset, length, flags)


ops = st.lists(st.builds(_op, commands, offsets, lengths, flags), min_size=1, max_size=24)
trap = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_WRITE_ZEROES, 2**40, 0, SIZE_BYTES)
endings = st.one_of(
    st.just(Ending()),
    st.builds(Ending, cut=st.integers(1, 300_000)),
    st.sampled_from(
        [
            Ending(tail=DISCONNECT + trap),
            Ending(tail=wire.REQUEST.pack(wire.REQUEST_MAGIC + 1, 0, 4, 9, 0, 4096) + trap),
            Ending(
                tail=wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, 1, 2**41, 0, DRAIN_BYTES_MAX + 1)
                + trap
            ),
        ]
    ),
)
pieces = st.lists(
    st.one_of(
        st.integers(1, 60),
        st.integers(4000, 4200),
        st.integers(1, 300_000),
        st.just(MIB),
    ),
    max_size=12,
)


def _stream(talk: Talk, asked: list[Op]) -> bytes:
    stream = bytearray()
    for op in asked:
        cookie, head = talk.ask(op.command, offset=op.offset, length=op.length, flags=op.flags)
        stream += head
        if op.command == wire.CMD_WRITE:
            stream += Random(cookie).randbytes(op.length)
    return bytes(stream)


def _cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """Cut into pieces of these sizes, over and over, but not into too many."""
    found, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)] if sizes and turn < 400 else len(stream)
        found.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    return found


@settings(max_examples=150)
@given(
    asked=ops,
    ending=endings,
    sizes=pieces,
    structured=st.booleans(),
    read_only=st.sampled_from([0, 0, 0, wire.FLAG_READ_ONLY]),
)
@example(
    asked=[Op(1, 0, MIB), Op(0, 1, MIB), Op(6, 5, MIB, 2), Op(0, 0, 2 * MIB)],
    ending=Ending(),
    sizes=[],
    structured=False,
    read_only=0,
)
@example(
    asked=[
        Op(1, 9, 900_000, 1),
        Op(3, 0, 0),
        Op(4, 0, MIB),
        Op(7, 0, 2 * MIB, 8),
        Op(0, 0, MIB, 4),
    ],
    ending=Ending(tail=DISCONNECT + trap),
    sizes=[50],
    structured=True,
    read_only=0,
)
def test_stream_of_requests_in_any_split_is_answered_as_the_oracle_would(
    asked: list[Op], ending: Ending, sizes: list[int], structured: bool, read_only: int
) -> None:
    """I1: same answers, same data, same allocation, same bytes left behind."""
    with serving(size_bytes=SIZE_BYTES) as volume:
        talk = volume.talk(structured=structured, flags=SERVED | read_only)
        # so that a read-only volume has something in it, and no map is empty
        first = volume.talk()
        volume.write(first, SECTOR_BYTES, b"\7" * 50_000)
        oracle = Oracle(talk.rules)
        oracle._put(SECTOR_BYTES, b"\7" * 50_000)  # noqa: SLF001 - the same, past the parser
        stream = _stream(talk, asked)
        stream = stream[: max(0, len(stream) - ending.cut)] + ending.tail
        oracle.feed(stream)
        volume.play(talk, *_cut(stream, sizes))
        assert talk.answers.keys() == oracle.answers.keys()
        for cookie, expected in oracle.answers.items():
            assert talk.answers[cookie] == expected, f"request {cookie}"
        assert oracle.allows(volume.read(0, SIZE_BYTES))
        assert volume.complaints == []


@settings(max_examples=30)
@given(asked=ops, structured=st.booleans(), seed=st.integers(0, 2**32))
def test_stream_through_a_socket_is_answered_as_the_oracle_would(
    asked: list[Op], structured: bool, seed: int
) -> None:
    """I1: the same with a real socket, whose receives are whatever the system makes of them."""
    random = Random(seed)
    with serving(size_bytes=SIZE_BYTES) as volume:
        client = volume.client(structured=structured)
        oracle = Oracle(client.talk.rules)
        cookies = []
        for op in asked:
            cookie, head = client.talk.ask(
                op.command, offset=op.offset, length=op.length, flags=op.flags
            )
            payload = Random(cookie).randbytes(op.length) if op.command == wire.CMD_WRITE else b""
            oracle.feed(head + payload)
            cookies.append(cookie)
            client.send(head + payload)
            if random.random() < 0.3:
                client.hear(cookie)
        for cookie in cookies:
            assert client.hear(cookie) == oracle.answers[cookie], f"request {cookie}"
        assert volume.read(0, SIZE_BYTES) == oracle.image
