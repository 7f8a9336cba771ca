"""The sinks of a home: where they lie, how a single one becomes a mirror, who comes and goes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from scrubjay.app.home import Home
from scrubjay.app.logs import set_up_notes
from scrubjay.app.mirroring import SinkChange, Sinks, settle_plan
from scrubjay.app.places import Places, pool_path, read_places, write_places
from scrubjay.app.sinks import SinkPlace, TpmWords, open_sink, parse_place
from scrubjay.base.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from scrubjay.sinks.mirrored import MirroredSink
from tests.app.made import CutError, Cutting, copied, fresh, holds, made, tracked, written
from tests.control.rig import Hands
from tests.model.thief import keys_in_sink
from tests.sinks.emulator import MISSING, PROGRAM, Emulator
from tests.vectors.opened import opened

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def written_home() -> Iterator[Home]:
    """A home with one file sink, and a volume that was written to."""
    with tempfile.TemporaryDirectory(prefix="sj-") as name:
        home = made(Path(name) / "home")
        written(home)
        yield home


@pytest.fixture
def home(written_home: Home, folder: Path) -> Home:
    """A copy of it."""
    return copied(written_home, folder / "home")


@pytest.fixture
def tpm() -> Iterator[Path]:
    """A TPM's socket."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(MISSING)
    emulator = Emulator()
    yield emulator.socket
    emulator.close()


def sinks(home: Home, *, words: TpmWords | None = None) -> Sinks:
    """Return what changes a home's sinks."""
    return Sinks(home, clock=Hands(), entropy=fresh(), words=words)


def keys_of(home: Home) -> set[bytes]:
    """Return the keys that the home's sink gives."""
    sink = open_sink(home, fresh())
    try:
        return {sink.key(epoch) for epoch in sink.epochs()}
    finally:
        sink.close()


def holders(home: Home, keys: set[bytes]) -> set[Path]:
    """Return the files, listed anywhere or not, in which one of these keys lies."""
    return {path for path in tracked(home) if keys_in_sink(path.read_bytes()) & keys}


def listed(home: Home) -> set[Path]:
    """Return the files that the home knows of as its sinks."""
    status = sinks(home).show()
    return {home.path / each.where for each in status.members} or {home.sink}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("file", SinkPlace("file")),
        ("file:/mnt/usb/jay.sink", SinkPlace("file", "/mnt/usb/jay.sink")),
        ("tpm2", SinkPlace("tpm2")),
        ("tpm2:/dev/tpmrm1", SinkPlace("tpm2", "/dev/tpmrm1")),
    ],
)
def test_place_of_a_sink_is_read_as_it_is_typed(text: str, place: SinkPlace) -> None:
    """A kind, and where unless it lies where such a one does by default."""
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text", ["", "file:", "file:relative", "pkcs11", "FILE", "tpm2:tpm0", ":/"]
)
def test_place_that_means_nothing_is_refused(text: str) -> None:
    """A relative path would be another one from another folder."""
    with pytest.raises(Invalid, match="expected file"):
        parse_place(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b'{"version": 1, "pool": 3}', b"\xff", b'{"version": 1, "unknown": true}'],
)
def test_places_that_make_no_sense_are_refused(home: Home, text: bytes) -> None:
    """A home whose parts nobody knows is not opened, and nothing in it changes."""
    home.places.write_bytes(text)
    with pytest.raises(Corrupt, match=r"places\.json"):
        open_sink(home, fresh())
    assert home.places.read_bytes() == text


def test_places_of_a_newer_version_are_refused(home: Home) -> None:
    """An older program does not guess."""
    home.places.write_text('{"version": 2, "cloud": "yes"}')
    with pytest.raises(Invalid, match="expected at most 1") as caught:
        pool_path(home)
    assert "newer" in caught.value.hint


def test_single_sink_becomes_a_mirror_and_losing_either_loses_nothing(
    home: Home, folder: Path
) -> None:
    """What held the key alone is overwritten, and the pool is sealed under a new epoch."""
    (before,) = keys_of(home)
    away = folder / "usb.sink"
    change = sinks(home).add(SinkPlace("file", str(away)))
    assert change.added == ["file sink.1", f"file {away}"]
    assert "losing its disk loses them all" in change.shared
    assert change.sink.epoch == 2
    assert [each.destroyed for each in change.sink.expelled] == [True]
    assert not home.sink.exists()
    assert holders(home, {before}) == set()
    assert holders(home, keys_of(home)) == {away, home.path / "sink.1"}
    for lost in (away, home.path / "sink.1"):
        aside = lost.rename(folder / "aside")
        assert holds(home)
        shown = sinks(home).show()
        assert [each.away for each in shown.members].count(True) == 1
        assert shown.worth == "CONDITIONAL"
        aside.rename(lost)
    assert holds(home)


def test_adding_cut_at_every_step_leaves_no_key_where_nobody_looks(
    written_home: Home, folder: Path
) -> None:
    """The next opening finishes or undoes it (I3, I6)."""
    outcomes = set()
    for at in range(1, 200):
        home = copied(written_home, folder / "home")
        away = folder / "usb.sink"
        away.unlink(missing_ok=True)
        power = Cutting(at)
        try:
            Sinks(home, clock=power, entropy=power).add(SinkPlace("file", str(away)))
        except CutError:
            pass
        else:
            break
        assert holds(home), f"cut at step {at}"
        outcomes.add(home.mirror.exists())
        assert holders(home, keys_of(home)) == listed(home), f"cut at step {at}"
        assert not home.mirror_plan.exists()
    else:
        pytest.fail("it was cut at every step and never came to an end")
    assert outcomes == {False, True}, "undone and finished"


def test_member_torn_while_it_was_made_is_overwritten(home: Home, folder: Path) -> None:
    """A key behind a header that is not there yet is a key all the same."""
    away = folder / "usb.sink"
    sinks(home).add(SinkPlace("file", str(away)))
    key, torn = keys_of(home), away.read_bytes()
    plan = home.mirror.read_bytes()
    shutil.copy(home.path / "sink.1", home.sink)
    other = copied(home, folder / "other-home")
    other.mirror.unlink()
    other.mirror_plan.write_bytes(plan)
    away.write_bytes(bytes(4096) + torn[4096:])
    assert away in holders(other, key)
    settle_plan(other, fresh())
    assert not away.exists()
    assert not other.mirror_plan.exists()


def test_plan_whose_member_is_out_of_reach_is_kept_and_says_so(home: Home, folder: Path) -> None:
    """Nothing pretends that a key is gone: one that cannot be looked for may be there."""
    usb = folder / "usb"
    usb.mkdir()
    sinks(home).add(SinkPlace("file", str(usb / "sink")))
    other = copied(home, folder / "other-home")
    other.mirror.rename(other.mirror_plan)
    usb.rename(folder / "unplugged")
    with pytest.raises(Unavailable, match="folder is not there") as caught:
        settle_plan(other, fresh())
    assert str(other.mirror_plan) in caught.value.hint
    assert other.mirror_plan.exists()


def test_lost_member_is_replaced_and_what_it_held_opens_nothing_new(
    home: Home, folder: Path
) -> None:
    """A stolen member's key is of an epoch that is dropped; it is named until it is destroyed."""
    stolen, spare = folder / "usb.sink", folder / "spare.sink"
    sinks(home).add(SinkPlace("file", str(stolen)))
    (before,) = keys_of(home)
    stolen.rename(folder / "thiefs-copy")
    change = sinks(home).replace(2, SinkPlace("file", str(spare)))
    assert not change.destroyed
    assert change.why_not == "it is out of reach"
    assert before not in keys_of(home)
    assert holders(home, keys_of(home)) == {spare, home.path / "sink.1"}
    assert change.sink.worth == "CONDITIONAL"
    assert [each.destroyed for each in change.sink.expelled] == [True, False]
    with pytest.raises(NotFound, match="sink 2: no member, it was expelled") as caught:
        sinks(home).expel(2)
    assert "--destroyed" in caught.value.hint
    said = sinks(home).expel(2, destroyed=True)
    assert [each.destroyed for each in said.sink.expelled] == [True, True]
    assert holds(home)


def test_member_within_reach_is_overwritten_when_it_goes(home: Home, folder: Path) -> None:
    """Its file is gone, and its key with it."""
    away = folder / "usb.sink"
    sinks(home).add(SinkPlace("file", str(away)))
    keys = keys_of(home)
    change = sinks(home).expel(2)
    assert change.destroyed
    assert not away.exists()
    assert holders(home, keys) == set()
    with pytest.raises(Conflict, match="last within reach"):
        sinks(home).expel(1)
    assert holds(home)


def test_rotation_that_waits_for_a_lost_member_ends_when_that_is_replaced(
    home: Home, folder: Path
) -> None:
    """A destroy waits visibly; then it is done (I3)."""
    away = folder / "usb.sink"
    sinks(home).add(SinkPlace("file", str(away)))
    away.unlink()
    with opened(home, fresh()) as parts:
        parts.daemon.forgetting.destroy("db0", check=lambda _: None)
        with pytest.raises(Unavailable, match="is away"):
            parts.daemon.forgetting.carry_out()
        assert parts.daemon.forgetting.pending() == 1
    sinks(home).replace(2, SinkPlace("file", str(away)))
    with opened(home, fresh()) as parts:
        parts.daemon.forgetting.carry_out()
        assert parts.daemon.forgetting.pending() == 0


def test_sinks_refuse_what_would_lose_something(home: Home, folder: Path) -> None:
    """Another's file, no such folder, no such member, a single sink that would be expelled."""
    other = folder / "other.sink"
    other.write_bytes(b"mine")
    before = home.sink.read_bytes()
    with pytest.raises(Conflict, match="something lies there"):
        sinks(home).add(SinkPlace("file", str(other)))
    with pytest.raises(NotFound, match="expected one") as caught:
        sinks(home).add(SinkPlace("file", "/nowhere/at/all/sink"))
    assert "mount" in caught.value.hint
    with pytest.raises(Invalid, match="a single one"):
        sinks(home).expel(0)
    assert other.read_bytes() == b"mine"
    assert home.sink.read_bytes() == before
    assert {path.name for path in tracked(home)} == {"sink", "other.sink"}
    sinks(home).add(SinkPlace("file", str(folder / "second")))
    with pytest.raises(NotFound, match="sink 9: no member, expected 1 or 2"):
        sinks(home).expel(9)
    for destroyed in (False, True):
        with pytest.raises(NotFound, match="sink 0: no member"):  # it was overwritten
            sinks(home).expel(0, destroyed=destroyed)
    with pytest.raises(NotFound, match="sink 0: no member"):
        sinks(home).replace(0, SinkPlace("file", str(folder / "third")))
    assert not (folder / "third").exists()
    with pytest.raises(Conflict, match=r"lies there|is a member"):
        sinks(home).add(SinkPlace("file", str(folder / "second")))


def test_home_with_a_tpm_and_a_file_goes_on_without_either(folder: Path, tpm: Path) -> None:
    """A TPM dies with its board; the file is the way back. Each is worth what it is."""
    home = made(folder / "home", sinks=[SinkPlace("tpm2", str(tpm)), SinkPlace("file")])
    written(home)
    assert [each.kind for each in sinks(home).show().members] == ["tpm2", "file"]
    budget = sinks(home).show().budget
    assert budget is not None
    assert budget.left > 0
    credentials = home.path / "tpm2.0"
    aside = credentials.rename(folder / "aside")
    assert holds(home)
    aside.rename(credentials)
    home.sink.unlink()
    assert holds(home)
    change: SinkChange = sinks(home).replace(1, SinkPlace("file"))
    assert not change.destroyed
    assert sinks(home).expel(0).destroyed
    assert not credentials.exists()
    assert holds(home)


def test_single_tpm_becomes_a_mirror_with_a_file(folder: Path, tpm: Path) -> None:
    """The way out for who began with a TPM alone."""
    home = made(folder / "home", sinks=[SinkPlace("tpm2", str(tpm))])
    written(home)
    assert read_places(home).sink_kind == "tpm2"
    change = sinks(home).add(SinkPlace("file"))
    assert change.added == [f"tpm2 {tpm}", "file sink"]
    assert not (home.path / "tpm2.0").exists()
    assert holds(home)
    sink = open_sink(home, fresh())
    assert isinstance(sink, MirroredSink)
    sink.close()


def test_command_beside_a_member_that_is_away_says_so_in_words(
    home: Home, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person reads it: no JSON of the daemon's log between what he asked for."""
    away = folder / "usb.sink"
    sinks(home).add(SinkPlace("file", str(away)))
    sinks(home).add(SinkPlace("file", str(folder / "third")))
    away.unlink()
    capsys.readouterr()
    set_up_notes()
    try:
        sinks(home).expel(3)
    finally:
        structlog.reset_defaults()
    told = capsys.readouterr().err.splitlines()
    assert told
    assert all(line.startswith("warning: sink ") for line in told)
    assert "is away" in told[-1]


def test_init_that_fails_at_its_second_sink_leaves_none(folder: Path) -> None:
    """All of a home, or nothing: no key lies where there is no home."""
    places = [SinkPlace("file", str(folder / "a.sink")), SinkPlace("file", "/nowhere/b.sink")]
    with pytest.raises(NotFound):
        made(folder / "home", sinks=places)
    assert list(folder.iterdir()) == []


def test_pool_elsewhere_that_is_gone_is_not_guessed(home: Home) -> None:
    """A device that is away is named; nothing else is taken for it."""
    pool_id = open_sink(home, fresh()).pool_id
    write_places(home, Places(version=1, pool="/dev/away", device=True, pool_id=pool_id))
    assert home.places.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotFound, match="not on /dev/away"):
        pool_path(home)
