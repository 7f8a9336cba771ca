"""Packets between the daemon and the parent: one datagram, one message, whole or not at all.

SOCK_SEQPACKET keeps the ends of messages, so that the single-threaded parent never waits
for the rest of one. Descriptors travel along.
"""

from __future__ import annotations

import array
import os
import socket

from scrubjay.base.errors import Denied

__all__ = ["PACKET_BYTES_MAX", "received"]

PACKET_BYTES_MAX = 128 << 10
"""Of a request or a reply: a family of 1500."""
_DESCRIPTORS_MAX = 4


def received(client: socket.socket) -> tuple[bytes, list[int]]:
    """Return one packet and the descriptors that came with it."""
    space = socket.CMSG_SPACE(_DESCRIPTORS_MAX * array.array("i").itemsize)
    packet, ancillary, flags, _ = client.recvmsg(PACKET_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise Denied(f"packet: too long, expected at most {PACKET_BYTES_MAX} bytes")
    return packet, list(descriptors)
