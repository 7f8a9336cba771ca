"""Certificates: issued for what is gone, refused for what is not, whatever crashes (I3, I8)."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from scrubjay.base.errors import Conflict, Corrupt, NotFound, Unavailable
from scrubjay.base.ids import VolumeId
from scrubjay.catalog.database import Database
from scrubjay.control import certificates, looking
from scrubjay.control.births import enter_births
from scrubjay.control.certificates import Certificates, Issued
from scrubjay.control.keeper import Change
from scrubjay.control.log import Log
from scrubjay.control.records import birth_key, encode, forgetting_key
from scrubjay.evidence.entries import DeadlineMissed, parse_entry
from scrubjay.evidence.folder import Folder
from scrubjay.evidence.questions import Asked
from scrubjay.evidence.report import Report, Verdict
from scrubjay.evidence.verify import verify
from tests.control.rig import World


def destroy(world: World, *names: str) -> list[uuid.UUID]:
    """Destroy volumes in one rotation; return their operations."""
    operations = [world.forgetting.destroy(each, check=lambda _volume: None) for each in names]
    world.forgetting.carry_out()
    return operations


def only(certificates: Certificates) -> Issued:
    """Return the one certificate there is."""
    (issued,) = certificates.page(after=b"", limit=9)
    return issued


def checked(world: World, issued: Issued, *, volume: Asked | None = None) -> Report:
    """Verify a certificate as a stranger would, now."""
    bundle = world.certificates.bundle(issued)
    return verify(bundle, str(world.log.key), volume=volume, now=world.keeper.now())


def reopened(world: World) -> World:
    """Kill the daemon and start another."""
    world.close()
    return World(world.disks, world.folder)


def test_destroyed_volume_has_a_certificate_that_a_stranger_believes(world: World) -> None:
    """Every check passes; the grade is that of the sink."""
    a = world.written("a", tenant="acme")
    (operation,) = destroy(world, "a")
    issued = only(world.certificates)
    result = json.loads(world.operations.find(operation)[0].result)
    assert result["certificate"] == issued.id
    ((volume, blinding),) = world.certificates.blindings(issued)
    report = checked(world, issued, volume=Asked(volume, bytes.fromhex(blinding)))
    assert report.failed == ()
    assert report.verdict is Verdict.CONDITIONAL
    assert volume == a.id


def test_exporter_that_was_attached_is_in_the_certificate(world: World) -> None:
    """How it ended, and when."""
    world.written("a", tenant="acme")
    world.volumes.create("b", tenant="acme", size_bytes=1 << 30)
    destroy(world, "a", "b")
    payload = world.certificates.bundle(only(world.certificates))
    report = verify(payload, str(world.log.key))
    assert report.statement is not None
    ends = [each.end.exporter for each in report.statement.predicate.subjects]  # type: ignore[union-attr] # a first stage
    assert sorted(ends) == ["acknowledged", "not attached"]


def test_key_that_the_tree_still_leads_to_makes_no_certificate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look is made at the tree, not at what was intended (I8)."""
    world.written("a", tenant="acme")
    monkeypatch.setattr(Change, "has_key", lambda *_: True)
    operation = world.forgetting.destroy("a", check=lambda _volume: None)
    with capture_logs() as logs:
        world.forgetting.carry_out()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [
        "certificate.refused"
    ]
    assert world.operations.find(operation)[0].state == "running"
    assert world.certificates.page(after=b"", limit=9) == []
    monkeypatch.undo()
    world.forgetting.carry_out()
    assert world.operations.find(operation)[0].state == "done"


def test_certificate_that_is_refused_keeps_no_other_destruction_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgetting goes on whatever becomes of the evidence (I3)."""
    world.written("a", tenant="acme")
    world.written("b", tenant="acme")
    with monkeypatch.context() as patched:
        patched.setattr(Change, "has_key", lambda *_: True)
        (first,) = destroy(world, "a")
    refused = world.certificates.issue
    world.certificates.issue = lambda: False  # type: ignore[method-assign] # evidence waits
    (second,) = destroy(world, "b")
    assert world.keeper.epoch == 3
    assert world.sink.epochs() == (3,)
    world.certificates.issue = refused  # type: ignore[method-assign] # no more
    world.forgetting.carry_out()
    assert {world.operations.find(each)[0].state for each in (first, second)} == {"done"}


def test_superblock_of_the_old_epoch_makes_no_certificate(world: World) -> None:
    """Copies are read from the medium."""
    world.written("a", tenant="acme")
    old = bytes(4096)
    for offset_bytes, block in world.disks.pool.written():
        if offset_bytes == 0:
            old = bytes(block)
    write = world.disks.pool.write
    destroy_one = world.certificates.issue

    def planted() -> bool:
        write(0, old)
        return destroy_one()

    world.certificates.issue = planted  # type: ignore[method-assign] # a copy comes back in between
    world.forgetting.destroy("a", check=lambda _volume: None)
    with capture_logs() as logs:
        world.forgetting.carry_out()
    assert any("superblocks" in str(each.get("error")) for each in logs)
    assert world.certificates.page(after=b"", limit=9) == []


def test_crash_before_the_certificate_is_made_up_for(world: World) -> None:
    """What is due stands in the pool with the rotation."""
    world.written("a", tenant="acme")
    operation = world.forgetting.destroy("a", check=lambda _volume: None)

    def crash() -> bool:
        raise Unavailable("no more")  # the rotation is committed, and the sink has dropped

    world.certificates.issue = crash  # type: ignore[method-assign] # the daemon dies here
    with pytest.raises(Unavailable):
        world.forgetting.carry_out()
    later = reopened(world)
    later.clock.now = world.clock.now
    later.forgetting.recover()
    assert later.operations.find(operation)[0].state == "done"
    assert checked(later, only(later.certificates)).failed == ()
    later.close()


def test_certificate_survives_the_database_and_the_published_log(world: World) -> None:
    """The pool holds the log; the folder is made anew from it, byte for byte."""
    world.written("a", tenant="acme")
    destroy(world, "a")
    before = world.certificates.bundle(only(world.certificates))
    for path in sorted((world.folder / "evidence" / "log").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    later = reopened(world)
    assert later.certificates.bundle(only(later.certificates)) == before
    later.close()


def test_folder_of_another_history_is_not_signed_over(world: World) -> None:
    """A pool put back from a copy has fewer entries than were published (I6)."""
    world.volumes.create("a", tenant="acme", size_bytes=1 << 30)
    copied = world.disks.copied()
    world.volumes.create("b", tenant="acme", size_bytes=1 << 30)
    world.log.publish()
    world.close()
    (world.folder / "catalog.db").unlink()
    Database.create(world.folder / "catalog.db").close()
    older = World(copied, world.folder)
    with pytest.raises(Conflict, match="entries published"):
        older.log.publish()
    older.close()


def test_missing_file_of_a_certificate_is_named(world: World) -> None:
    """It is not made up anew: what was true then was seen then."""
    destroy(world, world.volumes.create("a", tenant="acme", size_bytes=1 << 30).record.name)
    issued = only(world.certificates)
    (world.folder / "evidence" / "certificates" / f"{issued.id}.json").unlink()
    with pytest.raises(Corrupt, match="its file is gone"):
        world.certificates.bundle(issued)


def test_certificate_is_found_by_the_beginning_of_its_id(world: World) -> None:
    """Eight digits or more, and no other."""
    destroy(world, world.volumes.create("a", tenant="acme", size_bytes=1 << 30).record.name)
    issued = only(world.certificates)
    assert world.certificates.find(issued.id) == issued
    assert world.certificates.find(issued.id[:8]) == issued
    for wrong in (issued.id[:7], "0" * 64, "../../etc/passwd", "G" * 64, "f" * 65):
        with pytest.raises(NotFound):
            world.certificates.find(wrong)


def test_closing_of_a_tenant_is_certified_over_all_that_it_ever_had(world: World) -> None:
    """Also what was destroyed before; and each exporter's end is told (I8)."""
    for name in ("a", "b", "c"):
        world.written(name, tenant="acme", segments=1)
    world.attachments.detach("b")
    destroy(world, "c")
    operation = world.forgetting.close("acme", check=lambda _tenant: None)
    world.forget()
    row, _ = world.operations.find(operation)
    assert row.state == "done"
    (digest,) = json.loads(row.result)["certificates"]
    closing = world.certificates.find(digest)
    assert closing.record.scope == "tenant"
    report = checked(world, closing)
    assert report.failed == ()
    assert report.statement is not None
    ends = [each.end.exporter for each in report.statement.predicate.subjects]  # type: ignore[union-attr] # a first stage
    assert sorted(ends) == ["acknowledged", "acknowledged", "not attached"]
    while world.scrubbing.turn():
        pass
    assert not world.certificates.go_on()
    assert checked(world, world.certificates.find(digest)).failed == ()


def test_ephemeral_volume_has_a_certificate_too(world: World) -> None:
    """Its keys were in memory alone, and are looked for all the same."""
    world.volumes.create("scratch", tenant="acme", size_bytes=1 << 30, ephemeral=True)
    world.attachments.attach("scratch")
    destroy(world, "scratch")
    world.forget()
    while world.scrubbing.turn():
        pass
    assert not world.certificates.go_on()
    assert checked(world, only(world.certificates)).failed == ()


def test_many_volumes_of_one_rotation_share_certificates(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate names so many that its entry fits in the log."""
    monkeypatch.setattr(certificates, "SUBJECTS_MAX", 25)
    names = [f"v{number}" for number in range(30)]
    for each in names:
        world.volumes.create(each, tenant="acme", size_bytes=1 << 30)
    destroy(world, *names)
    found = world.certificates.page(after=b"", limit=9)
    assert [len(each.record.volumes) for each in found] == [25, 5]
    assert all(checked(world, each).failed == () for each in found)
    assert [each.key for each in world.certificates.page(after=found[0].key, limit=9)] == [
        found[1].key
    ]


def test_clock_set_back_makes_no_certificate_impossible(world: World) -> None:
    """Its times stand in order, and it says why."""
    world.written("a", tenant="acme")
    world.clock.now -= 90_000_000_000_000
    destroy(world, "a")
    report = checked(world, only(world.certificates))
    assert report.failed in {(), ("clock",)}
    assert report.statement is not None
    assert any("clock stood before" in each for each in report.statement.predicate.logged)


def test_births_from_before_the_log_are_entered(world: World) -> None:
    """Once, and the certificate says when it was logged."""
    volume = world.volumes.create("a", tenant="acme", size_bytes=1 << 30)
    with world.keeper.changing() as change:
        birth = change.birth_record(volume.id)
        before = replace(birth, log_index=None, blinding="")  # as an older version wrote it
        change.put(birth_key(VolumeId(volume.id)), encode(before))
    assert enter_births(world.keeper) == 1
    assert enter_births(world.keeper) == 0
    destroy(world, "a")
    assert checked(world, only(world.certificates)).failed == ()


def test_second_stage_waits_for_the_slots(world: World) -> None:
    """Freed, then scrubbed: only then is it said (I8)."""
    world.written("a", tenant="acme", segments=5)
    destroy(world, "a")
    assert world.certificates.go_on()
    while world.forgetting.clear():
        pass
    assert world.certificates.go_on()
    assert not only(world.certificates).record.scrubbed
    while world.scrubbing.turn():
        pass
    assert not world.certificates.go_on()
    issued = only(world.certificates)
    report = checked(world, issued)
    assert report.failed == ()
    assert report.first is not None
    assert report.statement is not None
    (look,) = report.statement.predicate.verified
    assert (look.total, look.examined, look.mismatches) == (5, 5, 0)
    assert world.certificates.find(issued.record.forgotten) == issued


def test_later_volume_does_not_hold_a_second_stage_back(world: World) -> None:
    """Only what was freed by then counts."""
    world.written("a", tenant="acme")
    destroy(world, "a")
    while world.forgetting.clear():
        pass
    while world.scrubbing.turn():
        pass
    world.written("b", tenant="acme")
    destroy(world, "b")
    while world.forgetting.clear():
        pass
    assert world.certificates.go_on()
    assert [bool(each.record.scrubbed) for each in world.certificates.page(after=b"", limit=9)] == [
        True,
        False,
    ]


def test_deadline_that_is_missed_stands_in_the_log(world: World) -> None:
    """It is published, never hidden."""
    world.written("a", tenant="acme")
    destroy(world, "a")
    while world.forgetting.clear():
        pass
    world.clock.now += 2 * 86_400 * 1_000_000_000
    while world.scrubbing.turn():
        pass
    size = world.log.publish()
    entries = [parse_entry(world.log.published.entry(index, size)) for index in range(size)]
    (missed,) = [each for each in entries if isinstance(each, DeadlineMissed)]
    assert missed.deadline == "scrub_within"
    world.certificates.go_on()
    report = checked(world, only(world.certificates))
    assert report.failed == ()
    assert any("missed" in each for each in report.remarks)


def test_key_of_the_log_stays_and_is_not_in_clear_anywhere(world: World) -> None:
    """It is sealed with the pool's pages (I2)."""
    with world.keeper.reading() as view:
        record = view.signer()
    assert record is not None
    seed = bytes.fromhex(record.seed)
    for medium in (world.disks.pool, world.disks.sink):
        for _, block in medium.written():
            assert seed not in bytes(block)
            assert record.seed.encode() not in bytes(block)
    assert Log(world.keeper, Folder(world.folder / "elsewhere")).key == world.log.key


def test_page_of_certificates_is_empty_before_any_was_issued(world: World, tmp_path: Path) -> None:
    """Nothing is listed that is only due."""
    assert world.certificates.page(after=b"", limit=9) == []
    assert not (tmp_path / "evidence" / "certificates").exists()


def test_decision_of_an_earlier_version_is_carried_out_and_stops_no_other(world: World) -> None:
    """Its key was a number; it is put under the volume's id (records.md, `f`)."""
    world.written("a", tenant="acme")
    world.volumes.create("b", tenant="acme", size_bytes=1 << 30)
    operation = world.forgetting.destroy("a", check=lambda _volume: None)
    volume = world.volumes.find("a").id
    with world.keeper.changing() as change:
        value = change.get(forgetting_key(volume))
        assert value is not None
        change.delete(forgetting_key(volume))
        change.put(b"f" + bytes(8), value)
    world.forgetting.recover()
    world.forgetting.carry_out()
    (other,) = destroy(world, "b")
    assert {world.operations.find(each)[0].state for each in (operation, other)} == {"done"}


def test_exporter_is_ended_and_noted_while_the_rotation_has_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Withheld at once, whatever the sink does; and the certificate says how it ended (I8)."""
    a = world.written("a", tenant="acme")
    world.forgetting.destroy("a", check=lambda _volume: None)
    with monkeypatch.context() as patched:
        patched.setattr(type(world.sink), "prepare", _away)
        with pytest.raises(Unavailable):
            world.forgetting.carry_out()
    assert a.id not in world.exporters.locks
    world.forgetting.carry_out()
    report = checked(world, only(world.certificates))
    assert report.failed == ()
    assert report.statement is not None
    (subject,) = report.statement.predicate.subjects  # type: ignore[union-attr] # a first stage
    assert subject.end.exporter == "acknowledged"


def _away(*_: object) -> None:
    raise Unavailable("sink: away")


def test_place_with_characters_that_cannot_be_seen_hangs_no_destroy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is spelled out in the certificate."""
    world.written("a", tenant="acme")
    at = world.certificates._looking  # noqa: SLF001 - as of another home
    monkeypatch.setattr(at, "_log", looking._plain("/srv/caf\udce9\n\u200b"))  # noqa: SLF001 - as it is made
    destroy(world, "a")
    report = checked(world, only(world.certificates))
    assert report.failed == ()
    assert report.statement is not None
    places = [each.place for each in report.statement.predicate.inventory]
    assert any("\\xe9" in each and "\\u200b" in each for each in places)


def test_certificate_file_that_holds_another_is_named(world: World) -> None:
    """Its digest is looked at, not its name."""
    for name in ("a", "b"):
        destroy(world, world.volumes.create(name, tenant="acme", size_bytes=1 << 30).record.name)
    one, two = world.certificates.page(after=b"", limit=9)
    folder = world.folder / "evidence" / "certificates"
    (folder / f"{one.id}.json").write_bytes((folder / f"{two.id}.json").read_bytes())
    with pytest.raises(Corrupt, match="was changed"):
        world.certificates.bundle(one)


def test_locks_of_destroyed_volumes_do_not_stay(world: World) -> None:
    """They are there while somebody looks, and go afterwards."""
    for number in range(3):
        world.written(f"v{number}", tenant="acme")
    destroy(world, "v0", "v1")
    left = [path.stem for path in (world.folder / "run" / "volumes").glob("*.lock")]
    assert left == [str(world.volumes.find("v2").id)]


def test_operation_whose_row_is_lost_is_entered_anew(world: World) -> None:
    """A new catalog knows nothing of it; whoever asks again finds it."""
    world.written("a", tenant="acme")
    operation = world.forgetting.destroy("a", check=lambda _volume: None)
    world.close()
    (world.folder / "catalog.db").unlink()
    Database.create(world.folder / "catalog.db").close()
    later = World(world.disks, world.folder)
    later.forgetting.recover()
    assert later.operations.find(operation)[0].state == "running"
    later.forgetting.carry_out()
    assert later.operations.find(operation)[0].state == "done"
    later.close()


def _words(world: World) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the newest certificate logged and assumes, each with "ephemeral" in it."""
    issued = world.certificates.page(after=b"", limit=9)[-1]
    report = checked(world, issued)
    assert report.failed == ()
    assert report.statement is not None
    said = report.statement.predicate
    logged, assumed = (
        tuple(each for each in words if "ephemeral" in each)
        for words in (said.logged, said.assumed)
    )
    return logged, assumed


def test_certificate_of_an_ephemeral_volume_says_that_its_keys_were_in_memory(
    world: World,
) -> None:
    """Logged and assumed are kept apart; of another volume neither is said (I8)."""
    world.written("a", tenant="acme")
    for name in ("b", "c"):
        world.volumes.create(name, tenant="acme", size_bytes=1 << 30, ephemeral=True)
    destroy(world, "a")
    assert _words(world) == ((), ())
    destroy(world, "b")
    (logged,), (assumed,) = _words(world)
    assert logged.startswith("The volume was ephemeral: the keys of its segments were in its")
    assert "The grade is the sink's" in logged
    assert "Nobody kept an image of the memory" in assumed
    world.volumes.create("d", tenant="acme", size_bytes=1 << 30)
    destroy(world, "c", "d")
    (logged,), _ = _words(world)
    assert re.match("Volume [12] of 2 was ephemeral: ", logged)


def test_volumes_that_were_ephemeral_are_numbered_or_counted() -> None:
    """A sentence of evidence has a thousand characters at most."""
    assert looking._volumes([2, 3], 4) == "Volumes 2, 3 of 4 were, each,"  # noqa: SLF001 - as it is made
    assert looking._volumes(list(range(1, 91)), 200) == "Of 200 volumes, 90 were, each,"  # noqa: SLF001 - as it is made
