"""Mirrored sinks: members that are away, lost, put back to older days, or replaced."""

import contextlib
from pathlib import Path
from uuid import UUID

import pytest

from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    NotFound,
    Unavailable,
)
from scrubjay.base.ids import Epoch
from scrubjay.sinks.budget import Budget, Certainty, scarcest
from scrubjay.sinks.file import FileSink
from scrubjay.sinks.keeper import EpochKeeper
from scrubjay.sinks.membership import (
    Expelled,
    Member,
    RecordFile,
    decode,
    encode,
    first_record,
    member_id,
)
from scrubjay.sinks.mirrored import MirroredSink
from scrubjay.sinks.sink import Grade, Sink, Worth, weakest
from tests.keys.world import SeededEntropy
from tests.sinks.disks import POOL, SINK, SOMEWHERE, CrashFile, PowerLossError, key_of
from tests.sinks.rigs import FIRST, MirrorRig

NEW = Epoch(2)


def keeper(sink: Sink) -> EpochKeeper:
    """Return the keeper of the pool's sink."""
    return EpochKeeper(sink, sink_id=SINK, pool_id=POOL, entropy=SeededEntropy(9))


class BrokenDisk(CrashFile):
    """A disk that can be read and not written."""

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Fail."""
        raise Unavailable("left: input/output error")


@pytest.fixture
def rig() -> MirrorRig:
    """Return a machine with a mirror on the disks left and right."""
    made = MirrorRig()
    made.make().close()
    return made


def test_mirror_with_one_member_lost_opens_the_pool(rig: MirrorRig) -> None:
    """Either sink alone gives the key."""
    for gone in ("left", "right"):
        rig.members.unplugged = {gone}
        sink = rig.open()
        assert keeper(sink).key(FIRST) == key_of(FIRST)
        assert keeper(sink).settle(FIRST) == ()


def test_mirror_with_no_member_is_unavailable(rig: MirrorRig) -> None:
    """With every sink away nothing opens, and each is named with its reason."""
    rig.members.unplugged = {"left", "right"}
    with pytest.raises(Unavailable, match=r"left: unplugged; right: unplugged"):
        rig.open()


def test_mirror_member_alone_is_foreign_to_the_pool(rig: MirrorRig) -> None:
    """A single member does not pass for the mirror, so nobody rotates it behind the other."""
    alone = FileSink(rig.members.disks["left"], SeededEntropy(3), SOMEWHERE)
    assert alone.sink_id == member_id(SINK, 0) != SINK
    with pytest.raises(Invalid, match="foreign"):
        keeper(alone)


def test_mirror_begins_no_rotation_without_every_member(rig: MirrorRig) -> None:
    """A destroy waits visibly while a member is away, and goes on once it is back."""
    rig.members.unplugged = {"right"}
    sink = rig.open()
    with pytest.raises(Unavailable, match="right is away") as caught:
        keeper(sink).prepare(FIRST)
    assert "replace" in caught.value.hint
    assert rig.members.holds("left") == (1,)
    rig.members.unplugged = set()
    assert keeper(sink).prepare(FIRST) == NEW
    assert keeper(sink).settle(NEW) == (1,)


def test_mirror_drop_with_a_member_away_is_owed_until_it_returns(rig: MirrorRig) -> None:
    """Forgetting is not done while one sink may hold the key, whoever restarts meanwhile (I3)."""
    sink = rig.open()
    sink.prepare(NEW, key_of(NEW))
    sink.close()
    rig.members.unplugged = {"right"}
    for _ in range(2):
        sink = rig.open()
        with pytest.raises(Unavailable, match="epoch 1 is not forgotten yet"):
            keeper(sink).settle(NEW)
        assert keeper(sink).key(NEW) == key_of(NEW)
        assert sink.epochs() == (1, 2)
    assert rig.members.holds("left") == (2,)
    rig.members.unplugged = set()
    assert keeper(sink).settle(NEW) == (1,)
    assert rig.members.holds("right") == (2,)
    assert keeper(rig.open()).settle(NEW) == ()


def test_mirror_drop_with_every_member_there_leaves_nothing_owed_on_record(rig: MirrorRig) -> None:
    """What was seen to be gone everywhere is not waited for by who opens it next."""
    sink = rig.open()
    sink.prepare(NEW, key_of(NEW))
    sink.drop(FIRST)
    assert sink.epochs() == (2,)
    sink.close()
    again = rig.open()
    assert isinstance(again, MirroredSink)
    assert again.owed() == ()
    assert again.epochs() == (2,)


def test_mirror_takes_one_more_member_and_no_ninth(rig: MirrorRig) -> None:
    """A new member gets the epoch's key; there is an end to how many are waited for."""
    sink = rig.open()
    assert isinstance(sink, MirroredSink)
    for number in range(2, 8):
        assert sink.add(kind="file", where=f"disk{number}").number == number
        assert rig.members.holds(f"disk{number}") == (1,)
    with pytest.raises(Invalid, match="8 members"):
        sink.add(kind="file", where="ninth")
    with pytest.raises(Conflict, match="is a member"):
        sink.replace(1, kind="file", where="left")


def test_mirror_that_began_to_drop_refuses_the_older_pool(rig: MirrorRig) -> None:
    """Once one member has dropped it, no other opens the pool of before (I6)."""
    sink = rig.open()
    sink.prepare(NEW, key_of(NEW))
    rig.members.unplugged = {"right"}
    with pytest.raises(Unavailable):
        rig.open().drop(FIRST)
    rig.members.unplugged = set()
    with pytest.raises(Denied, match="the pool is older than the sink"):
        keeper(rig.open()).key(FIRST)


def test_mirror_expels_a_lost_member_and_names_what_it_keeps(rig: MirrorRig) -> None:
    """Expelling lets the destroy go on, and the residue stays named until it is destroyed (I8)."""
    sink = rig.open()
    sink.prepare(NEW, key_of(NEW))
    rig.members.unplugged = {"right"}
    sink = rig.open()
    with pytest.raises(Unavailable):
        keeper(sink).settle(NEW)
    sink.expel(1)
    assert keeper(sink).settle(NEW) == (1,)
    (residue,) = rig.open().expelled()
    assert (residue.member.where, residue.epochs, residue.destroyed) == ("right", [1, 2], False)
    worth = sink.worth()
    assert worth.grade is Grade.CONDITIONAL
    assert "expelled and may still hold epoch 1 and 2" in worth.reason
    sink.mark_destroyed(1)
    assert "expelled" not in rig.open().worth().reason
    with pytest.raises(NotFound):
        sink.mark_destroyed(0)


def test_mirror_keeps_its_last_member_within_reach(rig: MirrorRig) -> None:
    """Nobody expels the only sink that has the key."""
    rig.members.unplugged = {"right"}
    sink = rig.open()
    with pytest.raises(Conflict, match="last within reach"):
        sink.expel(0)
    with pytest.raises(NotFound):
        sink.expel(7)


def test_mirror_replaces_a_lost_member(rig: MirrorRig) -> None:
    """A new sink gets the epoch's key under an id of its own, and the mirror rotates again."""
    rig.members.unplugged = {"right"}
    sink = rig.open()
    member = sink.replace(1, kind="file", where="third")
    assert (member.number, rig.members.holds("third")) == (2, (1,))
    after = keeper(sink).prepare(FIRST)
    keeper(sink).settle(after)
    assert rig.members.holds("left") == rig.members.holds("third") == (2,)
    again = rig.open()
    assert [(each.member.where, each.epochs, each.away) for each in again.members()] == [
        ("left", (2,), ""),
        ("third", (2,), ""),
    ]
    assert again.members()[1].sink_id == member_id(SINK, 2)
    rig.members.unplugged = {"left", "right"}
    assert keeper(rig.open()).key(NEW) == keeper(again).key(NEW)


def test_mirror_replaced_member_that_could_not_be_made_is_away(rig: MirrorRig) -> None:
    """A replacement that failed waits to be replaced in turn; it is never just forgotten."""
    sink = rig.open()
    rig.members.disks["taken"] = CrashFile()
    with pytest.raises(Conflict, match="in use"):
        sink.replace(1, kind="file", where="taken")
    again = rig.open()
    assert [each.away != "" for each in again.members()] == [False, True]
    with pytest.raises(Unavailable):
        keeper(again).prepare(FIRST)
    again.replace(2, kind="file", where="fourth")
    assert keeper(again).prepare(FIRST) == NEW


def test_mirror_replaces_none_within_a_rotation_or_in_a_members_place(rig: MirrorRig) -> None:
    """A new member gets one key, and no two members share a place."""
    sink = rig.open()
    with pytest.raises(Conflict, match="left is a member"):
        sink.replace(1, kind="file", where="left")
    with pytest.raises(NotFound):
        sink.replace(9, kind="file", where="third")
    sink.prepare(NEW, key_of(NEW))
    with pytest.raises(Conflict, match="within a rotation"):
        sink.replace(1, kind="file", where="third")


@pytest.mark.slow
def test_mirror_cut_at_every_step_of_a_replacement_loses_nothing(seed: int) -> None:
    """Whenever the power goes, the pool opens, and no sink holds a key unseen."""
    for cut in range(12):
        rig = MirrorRig()
        rig.make().close()
        rig.members.unplugged = {"right"}
        sink = rig.open()
        rig.power.steps, rig.power.stop_at = 0, cut
        with contextlib.suppress(PowerLossError):
            sink.replace(1, kind="file", where="third")
        rig.power.stop_at = -1
        again = rig.open()
        assert keeper(again).key(FIRST) == key_of(FIRST)
        listed = {each.member.where for each in again.members()}
        assert "third" in listed or "third" not in rig.members.disks
        if "third" not in listed:
            again.replace(1, kind="file", where="third")
        elif again.members()[-1].away:
            again.replace(2, kind="file", where="fourth")
        assert keeper(again).prepare(FIRST) == NEW


def test_mirror_brings_a_member_of_older_days_forward(rig: MirrorRig) -> None:
    """A member put back from a copy gets the newest key and loses the old one (I6)."""
    old = bytes(rig.members.disks["right"].durable)
    sink = rig.open()
    keeper(sink).settle(keeper(sink).prepare(FIRST))
    rig.members.disks["right"] = CrashFile(old, power=rig.power)
    again = rig.open()
    with pytest.raises(Denied, match="the pool is older"):
        keeper(again).key(FIRST)
    assert keeper(again).settle(NEW) == (1,)
    assert rig.members.holds("right") == (2,)
    rig.members.unplugged = {"left"}
    assert keeper(rig.open()).key(NEW) == keeper(again).key(NEW)


def test_mirror_whose_members_differ_in_a_key_stops(rig: MirrorRig) -> None:
    """Two keys for one epoch are named, not chosen from."""
    disk = rig.members.disks["right"] = CrashFile(power=rig.power)
    FileSink.format(
        disk,
        SeededEntropy(3),
        SOMEWHERE,
        sink_id=member_id(SINK, 1),
        pool_id=POOL,
        epoch=FIRST,
        key=key_of(77),
    )
    with pytest.raises(Corrupt, match="members 0 and 1 differ in epoch 1"):
        rig.open()


@pytest.mark.parametrize(("sink_id", "pool_id"), [(SINK, POOL), (member_id(SINK, 1), UUID(int=5))])
def test_mirror_takes_no_foreign_sink_for_a_member(
    rig: MirrorRig, sink_id: UUID, pool_id: UUID
) -> None:
    """A sink with another id or pool is away, not a member."""
    disk = rig.members.disks["right"] = CrashFile(power=rig.power)
    FileSink.format(
        disk,
        SeededEntropy(3),
        SOMEWHERE,
        sink_id=sink_id,
        pool_id=pool_id,
        epoch=FIRST,
        key=key_of(FIRST),
    )
    sink = rig.open()
    assert "expected sink" in sink.members()[1].away
    with pytest.raises(Unavailable):
        keeper(sink).prepare(FIRST)


def test_mirror_with_a_damaged_member_goes_on_without_it(rig: MirrorRig) -> None:
    """A member that lost its key is away, and can be replaced."""
    rig.members.disks["left"].write(4096 + 9000, b"damage")
    sink = rig.open()
    assert keeper(sink).key(FIRST) == key_of(FIRST)
    assert "holds no epoch" in sink.members()[0].away
    assert "it is away" in sink.worth().reason
    sink.replace(0, kind="file", where="third")
    assert keeper(sink).prepare(FIRST) == NEW


def test_mirror_member_that_fails_in_a_drop_is_owed(rig: MirrorRig) -> None:
    """Whichever member fails, the others drop, and the whole is not done."""
    sink = rig.open()
    sink.prepare(NEW, key_of(NEW))
    left = rig.members.disks["left"]
    rig.members.disks["left"] = BrokenDisk(bytes(left.durable))
    again = rig.open()
    with pytest.raises(Unavailable, match="input/output error"):
        again.drop(FIRST)
    assert rig.members.holds("right") == (2,)
    rig.members.disks["left"] = left
    again.drop(FIRST)
    assert rig.members.holds("left") == (2,)


def test_mirror_made_of_a_pools_single_sink_keeps_id_epoch_and_key() -> None:
    """The superblock stays as it is; the sink of before is residue until it is destroyed."""
    disk = CrashFile()
    single = FileSink.format(
        disk, SeededEntropy(1), SOMEWHERE, sink_id=SINK, pool_id=POOL, epoch=Epoch(4)
    )
    rig = MirrorRig()
    mirror = MirroredSink.create(
        rig.record,
        rig.members,
        mirror_id=single.sink_id,
        pool_id=single.pool_id,
        places=[("file", "left"), ("file", "right")],
        epoch=Epoch(4),
        key=single.key(Epoch(4)),
        formerly=Expelled(Member(0, "file", "sink"), [4]),
    )
    assert keeper(mirror).key(Epoch(4)) == single.key(Epoch(4))
    assert "file sink" in mirror.worth().place
    single.destroy()
    assert not any(disk.read(4096, disk.size_bytes))
    mirror.mark_destroyed(0)
    assert mirror.worth().reason == SOMEWHERE.reason


def test_mirror_of_one_or_of_too_many_or_twice_in_one_place_is_refused() -> None:
    """A mirror has two to eight members, each in its own place."""
    for places in ([("file", "a")], [("file", str(each)) for each in range(9)]):
        with pytest.raises(Invalid, match="expected 2 to 8"):
            first_record(SINK, POOL, places)
    with pytest.raises(Invalid, match="each in its own"):
        first_record(SINK, POOL, [("file", "a"), ("file", "a")])


def test_mirror_is_worth_what_its_weakest_member_is() -> None:
    """One sink on flash makes the whole conditional."""
    grades = [Worth(Grade.PURGE, "a", "r"), SOMEWHERE, Worth(Grade.CLEAR, "c", "r")]
    assert weakest(grades) is SOMEWHERE
    assert weakest(grades[::2]).grade is Grade.CLEAR


def test_mirror_affords_what_its_scarcest_member_does() -> None:
    """At any age, nobody is asked for more rotations than he affords."""
    budgets = [
        Budget(3600, 500, Certainty.ASSUMED, "a"),
        Budget(7200, 900, Certainty.STATED, "b"),
        Budget(0, 0, Certainty.NOT_NEEDED, "c"),
    ]
    both = scarcest(budgets)
    for age_s in (0, 10**6, 10**9):
        assert both.rotations(age_s) <= min(each.rotations(age_s) for each in budgets)
    assert scarcest(budgets[2:]).wait_s(rotations=10**9, age_s=0) == 0


def test_budget_spent_makes_the_next_rotation_wait() -> None:
    """Ahead of the average by the burst and no more; time earns the rest."""
    budget = Budget(100, 3, Certainty.ASSUMED, "a")
    assert [budget.wait_s(rotations=each, age_s=0) for each in range(5)] == [0, 0, 0, 100, 200]
    assert budget.wait_s(rotations=3, age_s=60) == 40
    assert budget.wait_s(rotations=4, age_s=200) == 0


# --- the record -------------------------------------------------------------------------


def test_record_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The record comes back as it was written, and nobody else may write it."""
    store = RecordFile(tmp_path / "sinks")
    with pytest.raises(NotFound):
        store.read()
    store.create(b"one")
    with pytest.raises(Conflict):
        store.create(b"two")
    store.replace(b"three")
    assert store.read() == b"three"
    assert [each.name for each in tmp_path.iterdir()] == ["sinks"]
    assert (tmp_path / "sinks").stat().st_mode & 0o777 == 0o600
    (tmp_path / "sinks").chmod(0o620)
    with pytest.raises(Denied):
        store.read()
    with pytest.raises(Unavailable):
        RecordFile(tmp_path / "none" / "sinks").replace(b"one")


def test_record_comes_back_and_damage_is_noticed() -> None:
    """Every byte of the record counts."""
    record = first_record(SINK, POOL, [("file", "a"), ("tpm2", "b")])
    data = encode(record)
    assert decode(data) == record
    for position in range(0, len(data), 7):
        broken = bytearray(data)
        broken[position] ^= 1
        if position == 64:
            continue  # the newline between digest and text says nothing
        with pytest.raises(Corrupt):
            decode(bytes(broken))
    for cut in (b"", data[:-1], data[:65]):
        with pytest.raises(Corrupt):
            decode(cut)


def test_record_of_a_newer_version_or_with_numbers_twice_is_refused() -> None:
    """What a newer Scrubjay wrote is not guessed at."""
    record = first_record(SINK, POOL, [("file", "a"), ("file", "b")])
    record.members[1] = Member(0, "file", "b")
    with pytest.raises(Corrupt, match="each number once"):
        decode(encode(record))
    newer = type(record)(2, SINK, POOL, [Member(0, "file", "a")], 1)
    with pytest.raises(Invalid, match="version 2, expected 1"):
        decode(encode(newer))


def test_member_ids_follow_from_the_mirror() -> None:
    """Each number has its own id in each mirror."""
    ids = {member_id(mirror, number) for mirror in (SINK, POOL) for number in range(50)}
    assert len(ids) == 100
    assert str(member_id(SINK, 0)) == str(member_id(SINK, 0))
