"""Numbers and layouts on the wire, under the names of the specification without ``NBD_``.

Source: ``doc/proto.md`` of github.com/NetworkBlockDevice/nbd (May 2026). Everything is big
endian. Plain integers instead of enums: the export loop compares them per request.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NewType

Cookie = NewType("Cookie", int)
"""64 bits that a client puts on a request and gets back on every reply to it."""

# Handshake -----------------------------------------------------------------------------

INIT_MAGIC: Final = 0x4E42444D41474943
OPTION_MAGIC: Final = 0x49484156454F5054
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9

FLAG_FIXED_NEWSTYLE: Final = 1 << 0
FLAG_NO_ZEROES: Final = 1 << 1

OPT_EXPORT_NAME: Final = 1
OPT_ABORT: Final = 2
OPT_LIST: Final = 3
OPT_STARTTLS: Final = 5
OPT_INFO: Final = 6
OPT_GO: Final = 7
OPT_STRUCTURED_REPLY: Final = 8
OPT_LIST_META_CONTEXT: Final = 9
OPT_SET_META_CONTEXT: Final = 10

REP_ACK: Final = 1
REP_SERVER: Final = 2
REP_INFO: Final = 3
REP_META_CONTEXT: Final = 4
REP_IS_ERROR: Final = 1 << 31
REP_ERR_UNSUP: Final = REP_IS_ERROR + 1
REP_ERR_POLICY: Final = REP_IS_ERROR + 2
REP_ERR_INVALID: Final = REP_IS_ERROR + 3
REP_ERR_PLATFORM: Final = REP_IS_ERROR + 4
REP_ERR_TLS_REQD: Final = REP_IS_ERROR + 5
REP_ERR_UNKNOWN: Final = REP_IS_ERROR + 6
REP_ERR_SHUTDOWN: Final = REP_IS_ERROR + 7
REP_ERR_BLOCK_SIZE_REQD: Final = REP_IS_ERROR + 8
REP_ERR_TOO_BIG: Final = REP_IS_ERROR + 9

INFO_EXPORT: Final = 0
INFO_NAME: Final = 1
INFO_DESCRIPTION: Final = 2
INFO_BLOCK_SIZE: Final = 3

# Transmission --------------------------------------------------------------------------

FLAG_HAS_FLAGS: Final = 1 << 0
FLAG_READ_ONLY: Final = 1 << 1
FLAG_SEND_FLUSH: Final = 1 << 2
FLAG_SEND_FUA: Final = 1 << 3
FLAG_ROTATIONAL: Final = 1 << 4
FLAG_SEND_TRIM: Final = 1 << 5
FLAG_SEND_WRITE_ZEROES: Final = 1 << 6
FLAG_SEND_DF: Final = 1 << 7
FLAG_CAN_MULTI_CONN: Final = 1 << 8
FLAG_SEND_CACHE: Final = 1 << 10
FLAG_SEND_FAST_ZERO: Final = 1 << 11

REQUEST_MAGIC: Final = 0x25609513
SIMPLE_REPLY_MAGIC: Final = 0x67446698
CHUNK_MAGIC: Final = 0x668E33EF

CMD_READ: Final = 0
CMD_WRITE: Final = 1
CMD_DISC: Final = 2
CMD_FLUSH: Final = 3
CMD_TRIM: Final = 4
CMD_CACHE: Final = 5
CMD_WRITE_ZEROES: Final = 6
CMD_BLOCK_STATUS: Final = 7

CMD_FLAG_FUA: Final = 1 << 0
CMD_FLAG_NO_HOLE: Final = 1 << 1
CMD_FLAG_DF: Final = 1 << 2
CMD_FLAG_REQ_ONE: Final = 1 << 3
CMD_FLAG_FAST_ZERO: Final = 1 << 4

CHUNK_DONE: Final = 1 << 0

CHUNK_NONE: Final = 0
CHUNK_OFFSET_DATA: Final = 1
CHUNK_OFFSET_HOLE: Final = 2
CHUNK_BLOCK_STATUS: Final = 5
CHUNK_IS_ERROR: Final = 1 << 15
CHUNK_ERROR: Final = CHUNK_IS_ERROR + 1
CHUNK_ERROR_OFFSET: Final = CHUNK_IS_ERROR + 2

STATE_HOLE: Final = 1 << 0
STATE_ZERO: Final = 1 << 1

EPERM: Final = 1
EIO: Final = 5
ENOMEM: Final = 12
EINVAL: Final = 22
ENOSPC: Final = 28
EOVERFLOW: Final = 75
ENOTSUP: Final = 95
ESHUTDOWN: Final = 108

ALLOCATION: Final = "base:allocation"
ALLOCATION_ID: Final = 1
"""The id under which a connection knows its only metadata context."""

# Limits --------------------------------------------------------------------------------

STRING_BYTES_MAX: Final = 4096
"""No name, description or message may be longer, says the specification."""

BLOCK_BYTES_MIN: Final = 1
BLOCK_BYTES_PREFERRED: Final = 4096
PAYLOAD_BYTES_MAX: Final = 32 << 20
"""These three are the specification's defaults: no client has to ask for them, and the
engine reads, modifies and writes what is smaller than its sector."""

EXTENTS_MAX: Final = 1 << 20
"""Descriptors that the specification allows in one block status chunk."""

# Layouts -------------------------------------------------------------------------------

GREETING: Final = Struct(">QQH")
"""INIT_MAGIC, OPTION_MAGIC, handshake flags."""
CLIENT_FLAGS: Final = Struct(">I")
OPTION: Final = Struct(">QII")
"""OPTION_MAGIC, option, length of its data."""
OPTION_REPLY: Final = Struct(">QIII")
"""OPTION_REPLY_MAGIC, option, reply type, length of its data."""
EXPORT: Final = Struct(">QH")
"""Size in bytes, transmission flags: the answer to EXPORT_NAME, and INFO_EXPORT's body."""
EXPORT_ZEROES: Final = 124
BLOCK_SIZES: Final = Struct(">III")
"""Minimum, preferred, maximum payload."""
U16: Final = Struct(">H")
U32: Final = Struct(">I")

REQUEST: Final = Struct(">IHHQQI")
"""REQUEST_MAGIC, command flags, command, cookie, offset, length."""
SIMPLE_REPLY: Final = Struct(">IIQ")
"""SIMPLE_REPLY_MAGIC, errno, cookie; after a successful READ the data follows."""
CHUNK: Final = Struct(">IHHQI")
"""CHUNK_MAGIC, chunk flags, chunk type, cookie, length of the payload."""
DATA_CHUNK: Final = Struct(">IHHQIQ")
"""CHUNK with length 8 + n, offset; n bytes follow."""
HOLE_CHUNK: Final = Struct(">IHHQIQI")
"""CHUNK with length 12, offset, size of the hole."""
ERROR_CHUNK: Final = Struct(">IHHQIIH")
"""CHUNK with length 6 + n, errno, n; n bytes of message follow."""
STATUS_CHUNK: Final = Struct(">IHHQII")
"""CHUNK with length 4 + 8 n, context id; n times EXTENT follow."""
EXTENT: Final = Struct(">II")
"""Length in bytes, STATE flags."""
U64: Final = Struct(">Q")
