"""The server's side of the fixed newstyle handshake, from greeting to transmission.

Invariant: whatever a client sends, the answer is a well-formed reply or the end of the
connection, at most ``OPTION_BYTES_MAX`` bytes of it are held, and it learns nothing of an
export that ``Exports`` does not show it.

Source: "Fixed newstyle negotiation" and "Option types" of NBD's ``doc/proto.md``. The
machine is the table ``TRANSITIONS``; docs/nbd.md shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from scrubjay.nbd import wire
from scrubjay.nbd.exports import ExportInfo, Exports
from scrubjay.nbd.options import Fields, RefusedError, expect_none, info_bodies, short, text
from scrubjay.nbd.transmission import Rules, clip_text

__all__ = [
    "GREETING",
    "OPTIONS_MAX",
    "OPTION_BYTES_MAX",
    "SKIP_BYTES_MAX",
    "TRANSITIONS",
    "Closed",
    "Event",
    "Handshake",
    "State",
    "Transmission",
]

OPTION_BYTES_MAX: Final = 64 << 10
"""Data of one option that is looked at: a longest name and a dozen longest queries."""

SKIP_BYTES_MAX: Final = 1 << 20
"""A longer option up to here is dropped and answered, past it the connection ends."""

OPTIONS_MAX: Final = 256
"""Options of one connection. ``nbdinfo --list`` needs a handful per export."""

_HANDSHAKE_FLAGS: Final = wire.FLAG_FIXED_NEWSTYLE | wire.FLAG_NO_ZEROES

GREETING: Final = wire.GREETING.pack(wire.INIT_MAGIC, wire.OPTION_MAGIC, _HANDSHAKE_FLAGS)
"""What the server sends before it has read anything."""


@dataclass(frozen=True, slots=True)
class Transmission:
    """The handshake succeeded: requests follow, ``rest`` is the beginning of them."""

    export: ExportInfo
    rules: Rules
    rest: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over once the bytes at hand are sent. ``fault``: the client's."""

    reason: str
    fault: bool


class State(Enum):
    """What the server waits for."""

    FLAGS = "client flags"
    OPTION = "an option's header"
    DATA = "an option's data"
    SKIPPING = "the end of an option that is too long"
    TRANSMISSION = "nothing, requests follow"
    CLOSED = "nothing, the connection ends"


class Event(Enum):
    """What can happen to the server while it waits."""

    GREETED = "the flags are known ones"
    ANNOUNCED = "the header names an option, known or not"
    OVERSIZED = "the header announces too much data"
    ANSWERED = "the option was answered, with success or an error"
    CHOSEN = "GO or EXPORT_NAME found its export"
    ABORTED = "the client gave up"
    VIOLATED = "there is no answer to this in the protocol"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.FLAGS, Event.GREETED): State.OPTION,
    (State.FLAGS, Event.VIOLATED): State.CLOSED,
    (State.OPTION, Event.ANNOUNCED): State.DATA,
    (State.OPTION, Event.OVERSIZED): State.SKIPPING,
    (State.OPTION, Event.VIOLATED): State.CLOSED,
    (State.DATA, Event.ANSWERED): State.OPTION,
    (State.DATA, Event.CHOSEN): State.TRANSMISSION,
    (State.DATA, Event.ABORTED): State.CLOSED,
    (State.DATA, Event.VIOLATED): State.CLOSED,
    (State.SKIPPING, Event.ANSWERED): State.OPTION,
}


_Handler = Callable[["Handshake", bytes], tuple[Event, bytes]]


class Handshake:
    """One connection's handshake: send ``GREETING``, then ``receive`` until ``outcome``."""

    def __init__(self, exports: Exports) -> None:
        self.outcome: Transmission | Closed | None = None
        self._exports = exports
        self._state = State.FLAGS
        self._inbox = bytearray()
        self._wanted = wire.CLIENT_FLAGS.size
        self._options = 0
        self._option = 0
        self._zeroes = wire.EXPORT_ZEROES
        self._structured = False
        self._allocation_of: str | None = None

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take bytes from the client, in pieces of any size; return bytes to send to it.

        Once ``outcome`` is set: send what was returned, then serve or close.
        """
        assert self.outcome is None, "the handshake is over"
        self._inbox += data
        reply = bytearray()
        while self._state in self._STEPS and self._arrived():
            message = bytes(self._inbox[: self._wanted])
            del self._inbox[: self._wanted]
            self._wanted = wire.OPTION.size
            event, answer = self._STEPS[self._state](self, message)
            self._state = TRANSITIONS[self._state, event]
            reply += answer
        return bytes(reply)

    def _arrived(self) -> bool:
        """Whether the next message is here whole. What is skipped never is kept."""
        if self._state is State.SKIPPING:
            skipped = min(self._wanted, len(self._inbox))
            del self._inbox[:skipped]
            self._wanted -= skipped
            return self._wanted == 0
        return len(self._inbox) >= self._wanted

    def _close(self, reason: str) -> tuple[Event, bytes]:
        self.outcome = Closed(reason, fault=True)
        return Event.VIOLATED, b""

    # Steps, one per state that reads.

    def _greet(self, message: bytes) -> tuple[Event, bytes]:
        (flags,) = wire.CLIENT_FLAGS.unpack(message)
        if flags & ~_HANDSHAKE_FLAGS:
            return self._close(f"client flags: {flags:#x}, expected at most {_HANDSHAKE_FLAGS:#x}")
        if flags & wire.FLAG_NO_ZEROES:
            self._zeroes = 0
        return Event.GREETED, b""

    def _announce(self, message: bytes) -> tuple[Event, bytes]:
        magic, self._option, length = wire.OPTION.unpack(message)
        self._options += 1
        if magic != wire.OPTION_MAGIC:
            return self._close(f"option magic: {magic:#x}, expected {wire.OPTION_MAGIC:#x}")
        if self._options > OPTIONS_MAX:
            return self._close(f"options: {self._options}, expected at most {OPTIONS_MAX}")
        if self._option == wire.OPT_SET_META_CONTEXT:
            self._allocation_of = None  # even if it fails, it replaces what was set before
        if length <= OPTION_BYTES_MAX:
            self._wanted = length
            return Event.ANNOUNCED, b""
        if length > SKIP_BYTES_MAX or self._option == wire.OPT_EXPORT_NAME:
            return self._close(
                f"option {self._option}: {length} bytes, expected at most {OPTION_BYTES_MAX}"
            )
        self._wanted = length
        return Event.OVERSIZED, b""

    def _answer(self, message: bytes) -> tuple[Event, bytes]:
        handler = self._OPTIONS.get(self._option, Handshake._unknown)
        try:
            return handler(self, message)
        except RefusedError as refused:
            if self._option == wire.OPT_EXPORT_NAME:  # it has no error reply
                return self._close(f"export name: {refused.message}")
            return Event.ANSWERED, self._error(refused.reply, refused.message)

    def _skip(self, message: bytes) -> tuple[Event, bytes]:
        assert not message
        if self._option not in self._OPTIONS:
            return self._unknown(message)
        why = f"option data: expected at most {OPTION_BYTES_MAX} bytes"
        return Event.ANSWERED, self._error(wire.REP_ERR_TOO_BIG, why)

    # Options.

    def _export_name(self, data: bytes) -> tuple[Event, bytes]:
        name = text(data)
        export = self._find(name)
        rules = self._choose(name, export)
        return Event.CHOSEN, wire.EXPORT.pack(export.size_bytes, rules.flags) + bytes(self._zeroes)

    def _abort(self, data: bytes) -> tuple[Event, bytes]:
        del data  # to be ignored, says the specification
        self.outcome = Closed("the client aborted the handshake", fault=False)
        return Event.ABORTED, self._reply(wire.REP_ACK)

    def _list(self, data: bytes) -> tuple[Event, bytes]:
        expect_none(data)
        reply = b""
        for export in self._exports.listed():
            name = export.name.encode()
            entry = wire.U32.pack(len(name)) + name + clip_text(export.description)
            reply += self._reply(wire.REP_SERVER, entry)
        return Event.ANSWERED, reply + self._reply(wire.REP_ACK)

    def _info(self, data: bytes) -> tuple[Event, bytes]:
        """INFO and GO differ in what follows a success."""
        fields = Fields(data)
        name = text(fields.string())
        asked = {fields.u16() for _ in range(fields.u16())}
        fields.end()
        export = self._find(name)
        infos = info_bodies(export, self._rules(export, name).flags, asked)
        reply = b"".join(self._reply(wire.REP_INFO, info) for info in infos)
        reply += self._reply(wire.REP_ACK)
        if self._option == wire.OPT_INFO:
            return Event.ANSWERED, reply
        self._choose(name, export)
        return Event.CHOSEN, reply

    def _structured_reply(self, data: bytes) -> tuple[Event, bytes]:
        expect_none(data)
        self._structured = True
        return Event.ANSWERED, self._reply(wire.REP_ACK)

    def _meta_context(self, data: bytes) -> tuple[Event, bytes]:
        """LIST and SET differ in what selects the one context that there is."""
        if not self._structured:
            raise RefusedError(wire.REP_ERR_INVALID, "structured replies have to come first")
        fields = Fields(data)
        name = text(fields.string())
        queries = [short(fields.string()) for _ in range(fields.u32())]
        fields.end()
        self._find(name)
        wanted = wire.ALLOCATION.encode() in queries
        context_id = wire.ALLOCATION_ID
        if self._option == wire.OPT_LIST_META_CONTEXT:
            wanted = wanted or not queries or b"base:" in queries
            context_id = 0  # reserved in a listing
        elif wanted:
            self._allocation_of = name
        context = wire.U32.pack(context_id) + wire.ALLOCATION.encode()
        reply = self._reply(wire.REP_META_CONTEXT, context) if wanted else b""
        return Event.ANSWERED, reply + self._reply(wire.REP_ACK)

    def _unknown(self, data: bytes) -> tuple[Event, bytes]:
        """STARTTLS ends here too: NOTLS is the mode of a socket that the kernel guards."""
        del data
        return Event.ANSWERED, self._error(wire.REP_ERR_UNSUP, "option: not known here")

    # What options share.

    def _find(self, name: str) -> ExportInfo:
        export = self._exports.find(name)
        if export is None:
            raise RefusedError(wire.REP_ERR_UNKNOWN, "export: no such name here")
        return export

    def _rules(self, export: ExportInfo, name: str) -> Rules:
        """A context counts only where it was set under the name that is then chosen."""
        return Rules.negotiated(
            export.flags, structured=self._structured, allocation=self._allocation_of == name
        )

    def _choose(self, name: str, export: ExportInfo) -> Rules:
        rules = self._rules(export, name)
        self.outcome = Transmission(export, rules, bytes(self._inbox))
        self._inbox.clear()
        return rules

    def _reply(self, reply: int, data: bytes = b"") -> bytes:
        head = wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, self._option, reply, len(data))
        return head + data

    def _error(self, reply: int, message: str) -> bytes:
        return self._reply(reply, clip_text(message))

    _STEPS: ClassVar[Mapping[State, _Handler]] = {
        State.FLAGS: _greet,
        State.OPTION: _announce,
        State.DATA: _answer,
        State.SKIPPING: _skip,
    }
    _OPTIONS: ClassVar[Mapping[int, _Handler]] = {
        wire.OPT_EXPORT_NAME: _export_name,
        wire.OPT_ABORT: _abort,
        wire.OPT_LIST: _list,
        wire.OPT_INFO: _info,
        wire.OPT_GO: _info,
        wire.OPT_STRUCTURED_REPLY: _structured_reply,
        wire.OPT_LIST_META_CONTEXT: _meta_context,
        wire.OPT_SET_META_CONTEXT: _meta_context,
    }
