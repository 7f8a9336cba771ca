"""TPM bytes from outside, derivations, credentials, and what a TPM is worth."""

import hmac
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    NoSpace,
    NotFound,
    ScrubjayError,
    Unavailable,
)
from scrubjay.base.ids import Epoch
from scrubjay.sinks.budget import Certainty
from scrubjay.sinks.sink import Grade
from scrubjay.sinks.tpm import credentials as files
from scrubjay.sinks.tpm.chip import Facts
from scrubjay.sinks.tpm.ground import assess_tpm, rotation_budget
from scrubjay.sinks.tpm.public import (
    NV_ATTRIBUTES,
    NvPublic,
    attestation_template,
    endorsement_template,
    nv_indices_for,
    parse_ecc,
    parse_nv,
)
from scrubjay.sinks.tpm.session import kdfa, kdfe
from scrubjay.sinks.tpm.slot import Owners, State, dropping, empty, held, parse
from scrubjay.sinks.tpm.wire import Reader, command, error_of, parse_response
from tests.sinks.disks import POOL, SINK, CrashFile, key_of

OWNERS = Owners(SINK, POOL)
TEN_YEARS_S = 10 * 365.25 * 86_400


# --- bytes ------------------------------------------------------------------------------


def test_command_is_laid_out_as_the_specification_says() -> None:
    """Tag, size, code, handles, sessions with their size, parameters."""
    assert command(0x144, (), b"\0\0").hex() == "80010000000c000001440000"
    with_session = command(0x122, (1, 2), b"pp", b"auth")
    assert with_session.hex() == "80020000001c0000012200000001000000020000000461757468" + "7070"


@given(st.binary(max_size=200), st.integers(0, 2))
def test_response_of_arbitrary_bytes_is_an_error_or_a_response(data: bytes, handles: int) -> None:
    """Nothing that a TPM sends makes us stumble."""
    for answer in (data, (0x8002).to_bytes(2) + (len(data) + 10).to_bytes(4) + bytes(4) + data):
        try:
            parse_response(answer, handles=handles, what="test")
        except ScrubjayError:
            continue


@given(st.integers(1, 0xFFFFFFFF))
def test_response_code_is_always_an_error_of_ours(code: int) -> None:
    """Every code has a class, and says its number."""
    error = error_of(code, "test")
    assert isinstance(error, ScrubjayError)
    assert f"0x{code:03x}" in error.message


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x18B, NotFound),  # handle 1
        (0x98E, Denied),  # session 1: authorisation failed
        (0x9A2, Denied),  # session 1: bad authorisation
        (0x921, Unavailable),
        (0x922, Unavailable),
        (0x14B, NoSpace),
        (0x14C, Conflict),
        (0x149, Denied),
        (0x100, Unavailable),
        (0x1C4, Invalid),  # parameter 1: value
        (0x155, Unavailable),
    ],
)
def test_response_code_means_what_the_caller_does_next(code: int, kind: type) -> None:
    """Codes with the number of a handle, session or parameter in them mean the same."""
    assert isinstance(error_of(code, "test"), kind)


def test_reader_refuses_what_ends_too_early_or_too_late() -> None:
    """A size that lies is Corrupt."""
    for data in (b"", b"\0", b"\0\5abc"):
        with pytest.raises(Corrupt):
            Reader(data).sized()
    reader = Reader(b"\0\1ab")
    assert reader.sized() == b"a"
    with pytest.raises(Corrupt, match="too many"):
        reader.end()
    assert reader.rest() == b"b"
    reader.end()


def test_public_areas_come_back_as_they_were() -> None:
    """What we define parses to itself; templates are no keys."""
    public = NvPublic(0x01800007, NV_ATTRIBUTES, b"p" * 32, 112)
    assert parse_nv(public.encode()) == public
    assert len(public.name) == 34
    assert attestation_template(SINK) != attestation_template(POOL)
    assert endorsement_template()[4:8].hex() == "000300b2"
    with pytest.raises(Corrupt):
        parse_ecc(endorsement_template())  # a template holds no point


@given(st.binary(max_size=120))
def test_public_areas_of_arbitrary_bytes_are_refused_or_parsed(data: bytes) -> None:
    """Public areas come from outside."""
    for deed in (parse_nv, parse_ecc):
        try:
            deed(data)
        except Corrupt:
            continue


def test_derivations_differ_by_each_of_their_inputs() -> None:
    """KDFa and KDFe give whole bytes, as many as asked, and depend on everything."""
    base = kdfa(b"k", b"XOR", b"u", b"v", 512)
    assert len(base) == 64
    assert base[:32] != base[32:]
    others = [
        kdfa(b"K", b"XOR", b"u", b"v", 512),
        kdfa(b"k", b"ATH", b"u", b"v", 512),
        kdfa(b"k", b"XOR", b"U", b"v", 512),
        kdfa(b"k", b"XOR", b"u", b"V", 512),
        kdfa(b"k", b"XOR", b"u", b"v", 520)[:64],
    ]
    assert len({base, *others}) == 6
    # SP 800-108 in counter mode, by hand: HMAC(key, counter ‖ label ‖ 0 ‖ context ‖ bits).
    message = bytes.fromhex("00000001") + b"XOR\0uv" + bytes.fromhex("00000200")
    assert base[:32] == hmac.digest(b"k", message, "sha256")
    assert kdfe(b"z", b"SECRET", b"u", b"v") != kdfe(b"z", b"SECRET", b"v", b"u")


# --- slots ------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
def test_slot_holds_what_was_put_into_it(epoch: int, key: bytes) -> None:
    """Held, dropping and empty are told apart, and each names its epoch."""
    number = Epoch(epoch)
    kept = parse(held(OWNERS, number, key), OWNERS)
    assert (kept.state, kept.epoch, kept.key) == (State.HELD, epoch, key)
    assert parse(dropping(OWNERS, number), OWNERS).state is State.REMAINS
    assert parse(dropping(OWNERS, number), OWNERS).epoch == epoch
    assert parse(empty(OWNERS, number), OWNERS).state is State.EMPTY


@given(st.integers(0, 111), st.integers(1, 255))
def test_slot_with_any_byte_changed_holds_nothing(at: int, change: int) -> None:
    """A torn or foreign slot is remains; only the epoch of an empty one may read as another."""
    for whole in (held(OWNERS, Epoch(7), key_of(7)), empty(OWNERS, Epoch(7))):
        torn = whole[:at] + bytes((whole[at] ^ change,)) + whole[at + 1 :]
        slot = parse(torn, OWNERS)
        assert slot.state is State.REMAINS or (slot.state is State.EMPTY and 8 <= at < 16)
    assert parse(b"", OWNERS).state is State.REMAINS
    assert parse(held(OWNERS, Epoch(7), key_of(7)), Owners(POOL, SINK)).state is State.REMAINS


# --- credentials ------------------------------------------------------------------------


def _credentials() -> files.Credentials:
    return files.fresh(
        sink_id=SINK,
        pool_id=POOL,
        device="/dev/tpmrm0",
        indices=(0x01800000, 0x01800001),
        auth=key_of(1),
        names=(b"\0\x0bek", b"\0\x0bak"),
    )


def test_credentials_come_back_and_damage_is_noticed_without_showing_them() -> None:
    """The file is whole or Corrupt, and no error quotes it (I2)."""
    disk = CrashFile()
    files.write(disk, _credentials())
    assert files.read(disk) == _credentials()
    data = bytes(disk.durable)
    for at in range(0, len(data), 11):
        broken = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        if at == 64:
            continue  # the newline between digest and text says nothing
        with pytest.raises(Corrupt):
            files.read(CrashFile(broken))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"version": 2}, Invalid),
        ({"auth": b"short"}, Corrupt),
        ({"indices": (5, 5)}, Corrupt),
    ],
)
def test_credentials_of_a_newer_version_or_incomplete_are_refused(
    changes: dict[str, object], kind: type[ScrubjayError]
) -> None:
    """What is not understood is not used."""
    disk = CrashFile()
    files.write(disk, msgspec.structs.replace(_credentials(), **changes))
    with pytest.raises(kind):
        files.read(disk)


def test_credentials_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Others must not read it, and one that is there is not written over."""
    path = tmp_path / "sink"
    files.store(path, _credentials()).close()
    with pytest.raises(Conflict):
        files.store(path, _credentials())
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(Denied):
        files.load(path)


# --- worth and budget -------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Return the root of a machine that is no virtual one."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags : fpu aes\n")
    return tmp_path


@pytest.mark.parametrize(
    ("maker", "policy", "grade", "said"),
    [
        ("IFX", "FIPS 140-3 certificate 1", Grade.PURGE, "asserted by the operator"),
        ("NTC", "", Grade.CLEAR, "nothing tells"),
        ("INTC", "x", Grade.CONDITIONAL, "flash of the board"),
        ("AMD", "x", Grade.CONDITIONAL, "flash of the board"),
        ("IBM", "x", Grade.CONDITIONAL, "copies of its memory"),
        ("????", "x", Grade.CONDITIONAL, "nothing tells"),
    ],
)
def test_tpm_is_worth_what_is_known_of_it(
    real: Path, maker: str, policy: str, grade: Grade, said: str
) -> None:
    """Purge takes a discrete part, its claim of FIPS, and an operator's word; never less (I8)."""
    worth = assess_tpm(Facts(maker, "x", 7 << 48 | 2 << 32, fips=True), policy=policy, root=real)
    assert worth.grade is grade
    assert said in worth.reason
    assert "firmware 7.2" in worth.place


def test_tpm_that_claims_no_fips_design_is_clear_whatever_the_operator_says(real: Path) -> None:
    """A word alone makes no Purge."""
    facts = Facts("STM", "x", 0, fips=False)
    assert assess_tpm(facts, policy="p", root=real).grade is Grade.CLEAR


def test_tpm_in_a_virtual_machine_is_conditional(real: Path) -> None:
    """What looks discrete there may be anything; so where nothing can be found out."""
    facts = Facts("IFX", "x", 0, fips=True)
    (real / "proc/cpuinfo").write_text("flags : fpu hypervisor\n")
    assert assess_tpm(facts, policy="p", root=real).grade is Grade.CONDITIONAL
    (real / "proc/cpuinfo").unlink()
    assert assess_tpm(facts, policy="p", root=real).grade is Grade.CONDITIONAL


def test_tpm_budget_keeps_ten_years_far_below_its_endurance() -> None:
    """Three writes a rotation, a quarter of the endurance in ten years; a stated one earns more."""
    assumed, stated = rotation_budget(), rotation_budget(500_000)
    assert 3 * assumed.rotations(TEN_YEARS_S) <= 25_000
    assert 3 * stated.rotations(TEN_YEARS_S) <= 125_000
    assert stated.rotations(TEN_YEARS_S) > 4 * assumed.rotations(TEN_YEARS_S)
    assert (assumed.certainty, stated.certainty) == (Certainty.ASSUMED, Certainty.STATED)
    # A rotation every two seconds, attack 14 of the design: after the burst it waits for hours.
    assert assumed.wait_s(rotations=assumed.burst, age_s=2.0 * assumed.burst) > 3600


def test_tpm_indices_are_random_and_the_owners() -> None:
    """Two neighbours in the range where owners define, other ones for each sink."""
    pairs = [nv_indices_for(UUID(int=each)) for each in range(200)]
    assert len(set(pairs)) == 200
    assert all(a >= 0x01800000 and b == a + 1 and b <= 0x01BFFFFF for a, b in pairs)
