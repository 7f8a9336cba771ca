"""Proofs that a published log continues a kept checkpoint: from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.base.errors import Corrupt, Invalid, NotFound
from scrubjay.evidence.checkpoint import Checkpoint, parse_checkpoint
from scrubjay.evidence.continuing import kept_checkpoint, prove_continuation
from scrubjay.evidence.folder import Folder
from scrubjay.evidence.merkle import Frontier, is_consistent
from scrubjay.evidence.note import decode_base64
from scrubjay.evidence.questions import Newer
from scrubjay.evidence.report import Outcome, Verdict
from scrubjay.evidence.verify import verify
from tests.evidence.world import ORIGIN, MemoryFiles, World, facts

SIZES = 600


def grown(sizes: list[int], *, seed: int = 0) -> tuple[MemoryFiles, dict[int, Checkpoint]]:
    """A log that was published at these sizes, and its checkpoint at each."""
    world, known = World(), {0: Checkpoint(ORIGIN, 0, Frontier().root())}
    for size in sizes:
        first = len(world.entries)
        world.enter(*(b"%d %d" % (seed, at) for at in range(first, size)))
        known[size] = world.newest()
    return world.files, known


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, SIZES), min_size=1, max_size=4, unique=True).map(sorted))
def test_proof_leads_from_every_kept_state_to_the_newest(sizes: list[int]) -> None:
    """Whatever partial tiles were deleted in between."""
    files, known = grown(sizes)
    for old in known.values():
        found = prove_continuation(files, old)
        assert (found.old, found.new) == (old, known[sizes[-1]])
        hashes = tuple(map(decode_base64, found.lines.split()))
        assert hashes == found.hashes
        assert is_consistent(
            old=old.size,
            old_root=old.root,
            new=found.new.size,
            new_root=found.new.root,
            proof=hashes,
        )


def test_proof_can_lead_to_a_state_that_is_not_the_newest() -> None:
    """As an auditor kept two of them."""
    files, known = grown([3, 7, 300])
    found = prove_continuation(files, known[3], newer=known[7])
    assert found.new == known[7]


def test_log_that_was_rewritten_gives_no_proof_and_is_named() -> None:
    """Signed by the same key: the roots differ all the same (I8)."""
    files, _ = grown([40], seed=1)
    _, kept = grown([17], seed=2)
    with pytest.raises(Corrupt, match="does not begin with the 17 of the checkpoint") as refused:
        prove_continuation(files, kept[17])
    assert "rewritten" in refused.value.hint


def test_log_that_was_cut_damaged_or_is_another_is_told_apart() -> None:
    """None of these is called a rewritten history."""
    files, known = grown([5, 40])
    with pytest.raises(NotFound, match="no checkpoint there"):
        prove_continuation(MemoryFiles(), known[5])
    with pytest.raises(Invalid, match="the log has 5, expected as many or more"):
        prove_continuation(grown([5])[0], known[40])
    with pytest.raises(Invalid, match="expected it"):
        prove_continuation(files, Checkpoint("elsewhere", 0, known[0].root))
    tile = "tile/0/000.p/40"
    for data, message in ((bytes(40 * 32), "do not lead to its checkpoint"), (b"x", "damaged")):
        files.files[tile] = data
        with pytest.raises(Corrupt, match=message):
            prove_continuation(files, known[5])
    del files.files[tile]
    with pytest.raises(Corrupt, match="not there"):
        prove_continuation(files, known[5])


def test_checkpoint_is_taken_from_a_file_or_out_of_a_bundle(tmp_path: Path) -> None:
    """Who kept the certificate alone has kept a checkpoint."""
    world = World()
    bundle = world.bundle(world.forget(facts(world.bear([1]))))
    kept = world.files.files["checkpoint"]
    assert kept_checkpoint(bundle) == kept_checkpoint(kept) == world.newest()
    for bad in (b"", b"{}", b"<html>", kept[:-1], b"\xff"):
        with pytest.raises(Invalid):
            kept_checkpoint(bad)
    with pytest.raises(NotFound):
        prove_continuation(Folder(tmp_path / "nowhere"), kept_checkpoint(kept))


def test_later_checkpoint_without_a_proof_is_not_called_a_break_of_history() -> None:
    """It is not compared, which proves nothing either; with the proof that is made it passes."""
    world = World()
    bundle = world.bundle(world.forget(facts(world.bear([1]))))
    world.bear(range(2, 40))
    later = world.files.files["checkpoint"]
    report = verify(bundle, world.key, newer=Newer(later))
    check = report.check("newer checkpoint")
    assert check.outcome is Outcome.NOT_CHECKED
    assert "give --proof" in check.sentence
    assert report.failed == ()
    assert report.verdict is Verdict.NOT_PROVEN
    proof = prove_continuation(world.files, kept_checkpoint(bundle)).hashes
    report = verify(bundle, world.key, newer=Newer(later, proof))
    assert report.verdict is Verdict.ERASED


def test_checkpoint_of_the_same_size_needs_no_proof_and_an_older_one_is_called_older() -> None:
    """Equal sizes have equal roots, or it is another log."""
    world, other = World(), World()
    world.bear([7])
    before = world.files.files["checkpoint"]
    bundle = world.bundle(world.forget(facts(world.bear([1]))))
    same = json.loads(bundle)["checkpoint"].encode()
    assert verify(bundle, world.key, newer=Newer(same)).verdict is Verdict.ERASED
    older = verify(bundle, world.key, newer=Newer(before)).check("newer checkpoint")
    assert (older.outcome, "is the older one" in older.sentence) == (Outcome.NOT_CHECKED, True)
    size = parse_checkpoint(same.decode().rpartition("\n\n")[0] + "\n").size
    other.bear(range(50, 50 + size))
    check = verify(bundle, world.key, newer=Newer(other.files.files["checkpoint"])).check(
        "newer checkpoint"
    )
    assert check.outcome is Outcome.FAILED
    assert "does not continue" in check.sentence
