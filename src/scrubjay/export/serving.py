"""One NBD connection in its transmission phase: bytes from a socket, batches to the disk.

What one receive brought is one batch: one hold of the volume's lock, one append, one
send. No reply to a write leaves before its append returned, none to a FLUSH or FUA
before a sync. Requests longer than the buffers are streamed through them.

Hot path: READ and WRITE of whole sectors are told apart and answered inside one loop,
with locals bound before it and no object per request; `make bench`, rows at queue depth
16, is what pays for it. Everything else goes through `_other`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from scrubjay.base.errors import NoSpace, ScrubjayError
from scrubjay.base.units import KIB, MIB
from scrubjay.engine.disk import Disk
from scrubjay.engine.writing import AppendFailed
from scrubjay.export.flushing import Flusher
from scrubjay.export.receiving import Receiver
from scrubjay.export.sending import Sender, Stream
from scrubjay.nbd import transmission, wire
from scrubjay.nbd.transmission import Rules
from scrubjay.nbd.wire import Cookie

__all__ = ["Connection", "Upkeep"]

RECEIVE_BYTES = MIB
"""Measured: 1 MiB beat 4 MiB, which leaves the processor's cache."""
PIECE_BYTES = 512 * KIB
"""What a longer read is answered in; also how much output is gathered before a send."""
OUT_BYTES = PIECE_BYTES + PIECE_BYTES // 8 + 64 * KIB
PARTIAL_BYTES = 128 * KIB
"""A write that is not all here yet is taken piece by piece from this size on."""
_HEADER_BYTES = wire.REQUEST.size
_SECTOR_MASK = 4095
_ANNOUNCED_MAX = 64
_READS_FEW = 2
_EXTENTS_MAX = 4096
_ADVISE_BYTES_MAX = wire.PAYLOAD_BYTES_MAX
"""A CACHE may name 4 GiB; so much of it is taken as advice."""
_WALK_BYTES_MAX = 1 << 30
"""A batch that walked so much of the map ends: requests of 28 bytes may name 4 GiB each,
and nobody else gets the volume meanwhile."""
_ZEROS = memoryview(bytes(PIECE_BYTES))
_YIELD_S = 50e-6
"""Who waits for the disk's lock wakes up in this; a lock just let go may be taken again."""


class Upkeep(Protocol):
    """What a connection asks of the volume's steward; the export room has the real one."""

    def wait_for_space(self) -> None:
        """Return when the disk has segments to write into, or is known to be full."""
        ...

    def kick(self) -> None:
        """Have a look soon: segments run short, or a checkpoint is due."""
        ...


class Connection:
    """Serves one client until it leaves; `run` is the body of a thread."""

    def __init__(
        self,
        sock: Stream,
        disk: Disk,
        rules: Rules,
        *,
        flusher: Flusher,
        upkeep: Upkeep,
        complain: Callable[[str], None],
    ) -> None:
        self._receive = Receiver(sock).receive
        self._sender = Sender(sock, disk)
        self._disk = disk
        self._rules = rules
        self._flusher = flusher
        self._upkeep = upkeep
        self._complain = complain
        self._in = memoryview(bytearray(RECEIVE_BYTES))
        self._out = memoryview(bytearray(OUT_BYTES))
        self._op = 0
        """Bytes of `_out` that wait to be sent."""
        self._reads = 0
        """How many plain reads the last batch held."""
        self._unproven: list[int] = []
        """Where in `_out` stand the replies to writes that are not appended yet."""
        self._fua: list[Cookie] = []
        """Writes that are not appended yet and wait for a sync afterwards."""
        self._flushes: list[Cookie] = []
        """Requests to be answered by a sync that begins behind this batch."""
        self._refused = b""
        """Replies to writes of `_fua` that did not arrive."""
        self._write: tuple[Cookie, int, int, int] | None = None
        """A write being taken in pieces: cookie, offset, bytes left, flags."""
        self._write_error = 0
        self._zeroing = False
        """Such a write consists of zeros: its client sends no bytes."""
        self._read: tuple[Cookie, int, int, bool] | None = None
        """A read being answered in pieces: cookie, offset, bytes left, in one chunk."""
        self._paused = False
        """The request at hand waits for a segment."""
        self._more = False
        """There is work in the buffers, so do not wait for the client."""
        self._walked_bytes = 0
        """What requests without bytes of their own looked through in this batch."""
        self._cold = False
        """Reads of the last batch waited for the medium."""
        self._ended = False

    def run(self, rest: bytes = b"") -> None:
        """Serve until the client leaves or breaks the protocol. `rest` came with the handshake.

        Returns, or raises the socket's OSError, once the flusher has let go of the socket.
        """
        try:
            self._serve_on(rest)
        finally:
            self._sender.settle()

    def _serve_on(self, rest: bytes) -> None:
        """Receive and serve, batch by batch, to the end."""
        start, end = 0, len(rest)
        self._in[:end] = rest
        self._more = bool(rest)
        receive = self._receive
        while not self._ended:
            if not self._more:
                received = receive(self._in[end:], gather=self._reads > _READS_FEW)
                if not received:
                    return
                end += received
            self._more = False
            if self._paused:
                self._upkeep.wait_for_space()
                self._paused = False
            elif self._zeroing:  # no word from the client comes between two pieces
                time.sleep(_YIELD_S)
            start = self._batch(start, end)
            if start == end:
                start = end = 0
            elif start and RECEIVE_BYTES - end < RECEIVE_BYTES >> 2:
                self._in[: end - start] = self._in[start:end]
                start, end = 0, end - start

    def _batch(self, start: int, end: int) -> int:
        """Serve what lies in the buffer; return how far it was consumed."""
        disk, upkeep = self._disk, self._upkeep
        opened = disk.opened_segments
        self._walked_bytes = 0
        with disk.lock:
            disk.begin(end - start)
            waits = disk.waits
            if self._cold:
                self._announce(start, end)
            try:
                start = self._serve(start, end)
            finally:
                self._prove()
            self._cold = disk.waits != waits
            self._more |= self._paused or self._read is not None or self._zeroing
        flushes = self._flushes
        if flushes:
            self._flushes = []
            self._sender.expect(len(flushes))
            self._flusher.enqueue(self._sender, flushes)
        if self._op:
            if self._read is not None and self._read[3]:
                self._sender.send_part(self._out[: self._op])
            else:
                self._sender.send(self._out[: self._op])
            self._op = 0
        if self._refused:
            refused, self._refused = self._refused, b""
            self._sender.add(refused)
        if disk.opened_segments != opened:
            upkeep.kick()
        if disk.needs_upkeep and not disk.poisoned:
            self._maintain()
        return start

    def _serve(self, start: int, end: int) -> int:
        disk, rules = self._disk, self._rules
        buffer, out, op = self._in, self._out, self._op
        check, unpack, pack_reply = (
            rules.check,
            wire.REQUEST.unpack_from,
            wire.SIMPLE_REPLY.pack_into,
        )
        pack_chunk, structured = wire.DATA_CHUNK.pack_into, rules.structured
        size_bytes, read_into, write = disk.size_bytes, disk.read_into, disk.write
        unproven, poisoned = self._unproven, disk.poisoned
        reads = self._reads = 0
        if self._read is not None:
            done = self._continue_read()
            op = self._op
            if not done:
                return start
        if self._write is not None:
            start = self._continue_write(start, end)
            op = self._op
            if self._write is not None:
                return start
        while end - start >= _HEADER_BYTES:
            magic, flags, command, cookie, offset, length = unpack(buffer, start)
            if magic != wire.REQUEST_MAGIC:
                self._ended = True
                break
            error = check(flags, command, offset, length, size_bytes) or poisoned
            if error or command > 1 or (offset | length) & _SECTOR_MASK or length > PIECE_BYTES:
                self._op = op
                consumed = self._other(start, end, error)
                op = self._op
                start += consumed
                if not consumed or self._ended or self._in_pieces():
                    break
                continue
            if command:  # WRITE
                payload = start + _HEADER_BYTES
                after = payload + length
                if after > end:
                    if end - payload >= PARTIAL_BYTES:
                        self._write, self._write_error = (cookie, offset, length, flags), 0
                        self._op = op
                        start = self._continue_write(payload, end)
                        op = self._op
                    break
                if op > PIECE_BYTES:
                    self._more = True
                    break
                try:
                    write(offset >> 12, length >> 12, buffer[payload:after])
                except (ScrubjayError, OSError) as failure:
                    if isinstance(failure, NoSpace) and not disk.full:
                        self._paused = True
                        break
                    error = self._failed(failure)
                if flags & wire.CMD_FLAG_FUA and not error:
                    self._fua.append(cookie)
                else:
                    if not error:
                        unproven.append(op)
                    pack_reply(out, op, wire.SIMPLE_REPLY_MAGIC, error, cookie)
                    op += 16
                start = after
                continue
            if op + length + 28 > OUT_BYTES:
                self._more = True
                break
            if structured:
                pack_chunk(
                    out,
                    op,
                    wire.CHUNK_MAGIC,
                    wire.CHUNK_DONE,
                    wire.CHUNK_OFFSET_DATA,
                    cookie,
                    8 + length,
                    offset,
                )
                begin = op + 28
            else:
                pack_reply(out, op, wire.SIMPLE_REPLY_MAGIC, 0, cookie)
                begin = op + 16
            start += _HEADER_BYTES
            reads += 1
            try:
                read_into(offset >> 12, length >> 12, out[begin : begin + length])
            except (ScrubjayError, OSError) as failure:
                self._op = op
                self._put_error(cookie, self._failed(failure))
                op = self._op
                continue
            op = begin + length
        self._op, self._reads = op, reads
        return start

    def _announce(self, start: int, end: int) -> None:
        """Announce the reads of a batch before the first of them waits (3x on a cold cache)."""
        ranges: list[tuple[int, int]] = []
        size_bytes = self._disk.size_bytes
        while end - start >= _HEADER_BYTES and len(ranges) < _ANNOUNCED_MAX:
            magic, _, command, _, offset, length = wire.REQUEST.unpack_from(self._in, start)
            start += _HEADER_BYTES
            if magic != wire.REQUEST_MAGIC:
                break
            if command == wire.CMD_WRITE:
                start += length
            elif command == wire.CMD_READ and 0 < length <= min(PIECE_BYTES, size_bytes - offset):
                ranges.append((offset, length))
        if len(ranges) > 1:
            with contextlib.suppress(ScrubjayError, OSError):  # who reads it will hear of it
                self._disk.announce(ranges)

    # --- All but the plain READ and WRITE --------------------------------------------

    def _other(self, start: int, end: int, error: int) -> int:
        """Serve one request; return how many bytes it took, 0 to come back to it."""
        disk, rules = self._disk, self._rules
        _, flags, command, cookie, offset, length = wire.REQUEST.unpack_from(self._in, start)
        if self._op > OUT_BYTES - 64 * KIB or self._walked_bytes >= _WALK_BYTES_MAX:
            self._more = True
            return 0
        if command == wire.CMD_DISC:
            self._ended = True
            return _HEADER_BYTES
        if command == wire.CMD_WRITE:
            if error and length > transmission.DRAIN_BYTES_MAX:
                self._ended = True
                return _HEADER_BYTES
            self._write, self._write_error = (cookie, offset, length, flags), error
            if length < PIECE_BYTES:  # room for as many more as may be in this batch
                spanned = (offset & _SECTOR_MASK) + length + _SECTOR_MASK & ~_SECTOR_MASK
                disk.begin(((end - start) // (_HEADER_BYTES + length) + 1) * spanned)
            taken = self._continue_write(start + _HEADER_BYTES, end)
            return taken - start
        if error:
            self._put_error(cookie, error)
            return _HEADER_BYTES
        if command == wire.CMD_READ:
            if self._op + min(length, PIECE_BYTES) + 64 > OUT_BYTES:
                self._more = True
                return 0
            whole = not rules.structured or bool(flags & wire.CMD_FLAG_DF)
            self._read = cookie, offset, length, whole
            self._continue_read(first=True)
            return _HEADER_BYTES
        try:
            if command == wire.CMD_FLUSH:
                self._flushes.append(cookie)
                return _HEADER_BYTES
            if command == wire.CMD_BLOCK_STATUS:
                self._walked_bytes += length
                extents = disk.allocation(offset, length, extents_max=_EXTENTS_MAX)
                hole = wire.STATE_HOLE | wire.STATE_ZERO
                states = [(size, 0 if data else hole) for size, data in extents]
                self._put(transmission.block_status(cookie, states, length=length, flags=flags))
                return _HEADER_BYTES
            if command == wire.CMD_CACHE:
                self._walked_bytes += _WALK_BYTES_MAX  # each unit is a call of the system
                disk.announce([(offset, min(length, _ADVISE_BYTES_MAX))])
            elif flags & wire.CMD_FLAG_NO_HOLE:
                return self._provision(cookie, offset, length, flags)
            else:
                self._walked_bytes += length
                self._prove()  # neither fails with the other
                disk.drop(offset, length, exact=command == wire.CMD_WRITE_ZEROES)
                disk.commit()
        except (ScrubjayError, OSError) as failure:
            if isinstance(failure, NoSpace) and not disk.full:
                self._paused = True
                return 0
            self._put_error(cookie, self._failed(failure))
            return _HEADER_BYTES
        if flags & wire.CMD_FLAG_FUA:
            self._flushes.append(cookie)
        else:
            self._put(transmission.simple_reply(cookie))
        return _HEADER_BYTES

    def _provision(self, cookie: Cookie, offset: int, length: int, flags: int) -> int:
        """Write zeros that take space (NO_HOLE), as a write that brings none of its bytes."""
        if flags & wire.CMD_FLAG_FAST_ZERO:
            self._put_error(cookie, wire.ENOTSUP)
        else:
            self._write, self._write_error = (cookie, offset, length, flags), 0
            self._zeroing = True
        return _HEADER_BYTES

    def _continue_write(self, start: int, end: int) -> int:
        """Take what has arrived of a write; return how far the buffer was consumed."""
        assert self._write is not None, "a write is under way"
        cookie, offset, left, flags = self._write
        source = _ZEROS if self._zeroing else self._in[start:end]
        size = min(left, len(source))
        if size < left:  # keep pieces on sector boundaries
            size = max(0, size - (offset + size & _SECTOR_MASK))
        self._write_error = self._write_error or self._disk.poisoned
        if size and not self._write_error:
            try:
                self._disk.write_bytes(offset, source[:size])
            except (ScrubjayError, OSError) as failure:
                if isinstance(failure, NoSpace) and not self._disk.full:
                    self._paused = True
                    return start
                self._write_error = self._failed(failure)
        start += 0 if self._zeroing else size
        if left > size:
            self._write = cookie, offset + size, left - size, flags
            return start
        self._write, self._zeroing = None, False
        if not self._write_error and flags & wire.CMD_FLAG_FUA:
            self._fua.append(cookie)
            return start
        if not self._write_error:
            self._unproven.append(self._op)
        self._put(transmission.simple_reply(cookie, self._write_error))
        return start

    def _continue_read(self, *, first: bool = False) -> bool:
        """Answer the next piece of a read, for which there is room; True: that was the last."""
        assert self._read is not None, "a read is under way"
        cookie, offset, left, whole = self._read
        size = min(left, PIECE_BYTES - (offset & _SECTOR_MASK))
        head = b""
        if not whole:
            head = transmission.data_chunk(cookie, offset=offset, length=size, last=size == left)
        elif first:
            head = transmission.read_header(
                cookie, offset=offset, length=left, structured=self._rules.structured
            )
        begin = self._op + len(head)
        error = self._disk.poisoned
        if not error:
            try:
                self._disk.read_bytes(offset, self._out[begin : begin + size])
            except (ScrubjayError, OSError) as failure:
                error = self._failed(failure)
        if error:
            if whole and not first:  # the reply has begun and cannot say so
                self._ended = True
                return False
            self._read = None
            self._put_error(cookie, error)
            return True
        self._out[self._op : begin] = head
        self._op = begin + size
        self._read = (cookie, offset + size, left - size, whole) if left > size else None
        return left == size

    def _in_pieces(self) -> bool:
        """Tell whether a request is being served in pieces."""
        return self._read is not None or self._write is not None

    # --- Replies and failures --------------------------------------------------------

    def _prove(self) -> None:
        """Append what is staged; what does not arrive turns its replies into errors."""
        try:
            self._disk.commit()
        except OSError as failure:
            error = self._failed(failure)
            if self._write is not None:
                self._write_error = error
        self._proven()

    def _proven(self) -> None:
        """Let those replies out that waited for an append."""
        self._unproven.clear()
        if self._fua:
            self._flushes += self._fua
            self._fua.clear()

    def _failed(self, failure: Exception) -> int:
        """Return the errno for a failure, and complain where an operator must know."""
        error = _errno(failure)
        if isinstance(failure, AppendFailed):  # none of the record's writes arrived
            for at in self._unproven:
                wire.U32.pack_into(self._out, at + wire.U32.size, error)
            for cookie in self._fua:
                self._refused += transmission.simple_reply(cookie, error)
            self._unproven.clear()
            self._fua.clear()
        if not isinstance(failure, NoSpace):
            self._complain(str(failure))
        return error

    def _maintain(self) -> None:
        """Do a little upkeep; what it meets is no fault of this client's requests."""
        with self._disk.lock:
            try:
                self._disk.maintain()
            except (ScrubjayError, OSError) as failure:
                self._complain(f"upkeep: {failure}")

    def _put_error(self, cookie: Cookie, error: int) -> None:
        """Answer with an errno; what went wrong inside is for the log, not for the tenant."""
        self._put(transmission.error_reply(cookie, error, structured=self._rules.structured))

    def _put(self, reply: bytes) -> None:
        self._out[self._op : self._op + len(reply)] = reply
        self._op += len(reply)


def _errno(failure: Exception) -> int:
    if isinstance(failure, ScrubjayError):
        return failure.nbd_errno
    return (
        wire.ENOSPC if isinstance(failure, OSError) and failure.errno == wire.ENOSPC else wire.EIO
    )
