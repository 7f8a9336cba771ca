"""A TPM 2.0 as a sink sees it: thirteen commands, spoken through a Transport.

Commands that carry a secret, or whose answer matters, run inside a `Talk`: one salted HMAC
session, begun for a few commands and ended after them. Nothing stays loaded in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from scrubjay.base.errors import Corrupt, Denied, NotFound, ScrubjayError
from scrubjay.base.ports import Entropy
from scrubjay.sinks.tpm.public import (
    ENDORSEMENT,
    NULL,
    OWNER,
    SHA256,
    NvPublic,
    endorsement_template,
    parse_ecc,
    parse_nv,
)
from scrubjay.sinks.tpm.session import (
    CONTINUE,
    ENCRYPTED,
    NONCE_BYTES,
    PASSWORD_SESSION,
    Session,
    salt_for,
    session_key,
)
from scrubjay.sinks.tpm.transport import Transport
from scrubjay.sinks.tpm.wire import (
    HEADER_BYTES,
    NOT_BEGUN,
    Reader,
    Response,
    b2,
    command,
    parse_response,
)

__all__ = ["Chip", "Facts", "Signed", "Talk"]

_NV_UNDEFINE, _NV_DEFINE, _CREATE_PRIMARY = 0x122, 0x12A, 0x131
_NV_WRITE, _NV_READ, _FLUSH = 0x137, 0x14E, 0x165
_NV_READ_PUBLIC, _START_SESSION, _GET_CAPABILITY, _NV_CERTIFY = 0x169, 0x176, 0x17A, 0x184

_NULL_HANDLE = 0x40000007
_XOR = 0x000A
_CAP_HANDLES, _CAP_PROPERTIES = 1, 6
_FIXED, _PROPERTIES_MAX = 0x100, 64
_MANUFACTURER, _VENDOR, _FIRMWARE, _MODES = 0x105, range(0x106, 0x10A), (0x10B, 0x10C), 0x12D
_FIPS_MODES = 0b11
_RESENT_MAX = 5
"""The kernel's driver has waited and tried again before we see such an answer."""
_NV_FIRST, _NV_MAX = 0x01000000, 254


@dataclass(frozen=True, slots=True)
class Facts:
    """What a TPM says of itself, unsigned."""

    manufacturer: str
    vendor: str
    firmware: int
    fips: bool
    """It claims to be designed for FIPS 140-2 or 140-3 (TPMA_MODES)."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A TPMS_ATTEST and the TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


class Chip:
    """One TPM; what fails raises the error that the TPM's answer means."""

    def __init__(self, transport: Transport, entropy: Entropy) -> None:
        self._transport = transport
        self._entropy = entropy

    def facts(self) -> Facts:
        """Ask the TPM who it is."""
        found: dict[int, int] = {}
        at = _FIXED
        while True:
            more, reader = self._capability(_CAP_PROPERTIES, at, _PROPERTIES_MAX)
            listed = [(reader.uint(4), reader.uint(4)) for _ in range(reader.uint(4))]
            found.update(listed)
            if not more or not listed or _MODES in found:
                break
            at = max(found) + 1
        vendor = b"".join(found.get(each, 0).to_bytes(4) for each in _VENDOR)
        high, low = (found.get(each, 0) for each in _FIRMWARE)
        return Facts(
            manufacturer=_text(found.get(_MANUFACTURER, 0).to_bytes(4)),
            vendor=_text(vendor),
            firmware=high << 32 | low,
            fips=bool(found.get(_MODES, 0) & _FIPS_MODES),
        )

    def nv_indices(self) -> list[int]:
        """Return the numbers of all NV indices, whoever defined them."""
        found: list[int] = []
        at = _NV_FIRST
        while True:
            more, reader = self._capability(_CAP_HANDLES, at, _NV_MAX)
            listed = [reader.uint(4) for _ in range(reader.uint(4))]
            found += listed
            if not more or not listed:
                return found
            at = found[-1] + 1

    def nv_public(self, index: int) -> NvPublic:
        """Return the public area of an index; NotFound if there is none."""
        response = self.run(_NV_READ_PUBLIC, (index,), what="NV_ReadPublic")
        return parse_nv(Reader(response.parameters).sized())

    @contextlib.contextmanager
    def primary(self, template: bytes) -> Iterator[tuple[int, bytes]]:
        """Make a key of the endorsement hierarchy; its handle and public area, for a while."""
        sensitive = b2(b2(b"") + b2(b""))
        parameters = sensitive + b2(template) + b2(b"") + bytes(4)
        response = self.run(
            _CREATE_PRIMARY,
            (ENDORSEMENT,),
            parameters,
            sessions=PASSWORD_SESSION,
            handles_out=1,
            what="CreatePrimary",
        )
        (handle,) = response.handles
        try:
            yield handle, Reader(response.parameters).sized()
        finally:
            self.flush(handle)

    @contextlib.contextmanager
    def talk(self, endorsement_name: bytes | None) -> Iterator[Talk]:
        """Begin a session with the TPM of that name; Denied where it is another one."""
        nonce = self._entropy.token(NONCE_BYTES)
        with self.primary(endorsement_template()) as (handle, public):
            key = parse_ecc(public)
            if endorsement_name not in (None, key.name):
                raise Denied(
                    f"tpm: endorsement key {key.name.hex()[:16]}, "
                    f"expected {(endorsement_name or b'').hex()[:16]}",
                    hint="another TPM, or one that was reset to its maker's state",
                )
            salt = salt_for(key.key, self._entropy)
            scheme = _XOR.to_bytes(2) + SHA256.to_bytes(2) + SHA256.to_bytes(2)
            response = self.run(
                _START_SESSION,
                (handle, _NULL_HANDLE),
                b2(nonce) + b2(salt.encrypted) + b"\0" + scheme,
                handles_out=1,
                what="StartAuthSession",
            )
        nonce_tpm = Reader(response.parameters).sized()
        (handle,) = response.handles
        session = Session(
            handle, session_key(salt.value, nonce_tpm, nonce), self._entropy, nonce_tpm
        )
        try:
            yield Talk(self, session, key.name, public)
        finally:
            self.flush(handle)

    def flush(self, handle: int) -> None:
        """Unload a session or key; one that is gone already is fine."""
        with contextlib.suppress(ScrubjayError):
            self.run(_FLUSH, (handle,), what="FlushContext")

    def run(
        self,
        code: int,
        handles: tuple[int, ...],
        parameters: bytes = b"",
        *,
        what: str,
        sessions: bytes = b"",
        handles_out: int = 0,
    ) -> Response:
        """Run a command as it is; one that the TPM did not begin is sent again, as it asks."""
        sent = command(code, handles, parameters, sessions)
        answer = self._transport.transact(sent)
        for _ in range(_RESENT_MAX):
            if answer[6:HEADER_BYTES] not in NOT_BEGUN:
                break
            answer = self._transport.transact(sent)
        return parse_response(answer, handles=handles_out, what=what)

    def close(self) -> None:
        """Let go of the TPM."""
        self._transport.close()

    def _capability(self, kind: int, first: int, count: int) -> tuple[int, Reader]:
        parameters = kind.to_bytes(4) + first.to_bytes(4) + count.to_bytes(4)
        response = self.run(_GET_CAPABILITY, (), parameters, what="GetCapability")
        reader = Reader(response.parameters)
        more, given = reader.uint(1), reader.uint(4)
        if given != kind:
            raise Corrupt(f"tpm: capability {given}, expected {kind}")
        return more, reader


@dataclass(frozen=True, slots=True)
class Talk:
    """Commands within one session with one TPM."""

    chip: Chip
    session: Session
    endorsement_name: bytes
    endorsement_public: bytes

    def define(self, public: NvPublic, auth: bytes, owner_auth: bytes) -> None:
        """Define an index with an authorisation of its own; Conflict where one of its number is."""
        self._run(
            _NV_DEFINE,
            (OWNER,),
            [OWNER.to_bytes(4)],
            b2(auth) + b2(public.encode()),
            owner_auth,
            encrypt_first=True,
            what=f"NV_DefineSpace 0x{public.index:08x}",
        )

    def undefine(self, public: NvPublic, owner_auth: bytes) -> None:
        """Remove an index, as the owner; fine where there is none."""
        with contextlib.suppress(NotFound):
            self._run(
                _NV_UNDEFINE,
                (OWNER, public.index),
                [OWNER.to_bytes(4), public.name],
                b"",
                owner_auth,
                what=f"NV_UndefineSpace 0x{public.index:08x}",
            )

    def write(self, public: NvPublic, auth: bytes, data: bytes) -> None:
        """Write the whole of an index; the data is encrypted on its way."""
        self._run(
            _NV_WRITE,
            (public.index, public.index),
            [public.name, public.name],
            b2(data) + bytes(2),
            auth,
            encrypt_first=True,
            what=f"NV_Write 0x{public.index:08x}",
        )

    def read(self, public: NvPublic, auth: bytes) -> bytes:
        """Return the whole of an index; the data is encrypted on its way."""
        data = self._run(
            _NV_READ,
            (public.index, public.index),
            [public.name, public.name],
            public.size_bytes.to_bytes(2) + bytes(2),
            auth,
            attributes=ENCRYPTED,
            what=f"NV_Read 0x{public.index:08x}",
        )
        return Reader(data).sized()

    def certify(
        self, key: tuple[int, bytes], public: NvPublic, auth: bytes, *, challenge: bytes, size: int
    ) -> Signed:
        """Have a signing key (its handle and name) state the first bytes of an index."""
        handle, name = key
        data = self._run(
            _NV_CERTIFY,
            (handle, public.index, public.index),
            [name, public.name, public.name],
            b2(challenge) + NULL.to_bytes(2) + size.to_bytes(2) + bytes(2),
            auth,
            before=PASSWORD_SESSION,
            what=f"NV_Certify 0x{public.index:08x}",
        )
        reader = Reader(data)
        return Signed(reader.sized(), reader.rest())

    def _run(
        self,
        code: int,
        handles: tuple[int, ...],
        names: list[bytes],
        parameters: bytes,
        auth: bytes,
        *,
        what: str,
        encrypt_first: bool = False,
        attributes: int = 0,
        before: bytes = b"",
    ) -> bytes:
        """Run a command that this session authorises; return its parameters, proven."""
        auth = auth.rstrip(b"\0")  # as the TPM keeps it (part 1, 19.6.4.3)
        sent, area = self.session.authorise(
            code, names, parameters, auth, encrypt_first=encrypt_first,
            attributes=attributes | CONTINUE,
        )  # fmt: skip
        response = self.chip.run(code, handles, sent, sessions=before + area, what=what)
        proofs = Reader(response.sessions)
        if before:
            proofs.sized(), proofs.uint(1), proofs.sized()
        return self.session.accept(code, response.parameters, proofs, auth)


def _text(data: bytes) -> str:
    return data.replace(b"\0", b" ").decode("ascii", "replace").strip()
