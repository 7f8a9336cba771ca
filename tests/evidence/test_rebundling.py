"""Bundles from a folder of evidence: the same as the daemon's, or a refusal that says why."""

from __future__ import annotations

import pytest

from scrubjay.base.errors import Conflict, Corrupt, NotFound
from scrubjay.evidence.certificate import Certificate
from scrubjay.evidence.entries import ScrubbedEntry, pack_entry
from scrubjay.evidence.rebundling import bundle_from
from scrubjay.evidence.strict import encode
from tests.evidence.world import MemoryFiles, World, facts, moment, scrub_facts, signer


def put(evidence: MemoryFiles, made: Certificate) -> str:
    """Put an envelope where a home has it; return its digest."""
    evidence.write(f"certificates/{made.digest}.json", encode(made.envelope))
    return made.digest


@pytest.fixture
def evidence() -> MemoryFiles:
    """The folder of a home, without the log."""
    return MemoryFiles()


def test_bundle_of_each_stage_is_the_one_that_the_daemon_makes(evidence: MemoryFiles) -> None:
    """Byte for byte, by the id of either stage or its beginning."""
    world = World()
    first = world.forget(facts(world.bear([1, 2])))
    other = world.forget(facts(world.bear([3])))
    before = put(evidence, first[0])
    key = world.signer.key
    assert bundle_from(evidence, world.files, before[:8], key) == world.bundle(first)
    second = world.scrub(scrub_facts(), first[0])
    after = put(evidence, second[0])
    for reference in (before, after, before[:12], after[:12]):
        assert bundle_from(evidence, world.files, reference, key) == world.bundle(second, first)
    alone = put(evidence, other[0])
    assert bundle_from(evidence, world.files, alone, key) == world.bundle(other)


def test_what_is_not_there_is_told_apart(evidence: MemoryFiles) -> None:
    """No envelope, no log, not in the log, several."""
    world = World()
    first = world.forget(facts(world.bear([1])))
    digest, key = put(evidence, first[0]), world.signer.key
    for reference in ("", "0" * 8, digest[:7], "../log", digest + "0"):
        with pytest.raises(NotFound, match="no such file"):
            bundle_from(evidence, world.files, reference, key)
    with pytest.raises(NotFound, match="no checkpoint"):
        bundle_from(evidence, MemoryFiles(), digest, key)
    young = World()
    young.bear([1])
    with pytest.raises(NotFound, match="not in the log of 1 entries"):
        bundle_from(evidence, young.files, digest, key)
    twin = digest[:8] + "0" * 56
    evidence.write(f"certificates/{twin}.json", b"{}")
    with pytest.raises(Conflict, match="begins 2 ids"):
        bundle_from(evidence, world.files, digest[:8], key)
    world.scrub(scrub_facts(), first[0])
    with pytest.raises(NotFound, match="its file is not there"):
        bundle_from(evidence, world.files, digest, key)


def test_log_whose_entries_refer_to_themselves_ends(evidence: MemoryFiles) -> None:
    """Tiles are a stranger's until the proof is made."""
    world = World()
    first = world.forget(facts(world.bear([1])))
    digest = put(evidence, first[0])
    entry = ScrubbedEntry(at=moment(0), statement=digest, forgotten=digest, subjects=("0" * 64,))
    strange = World()
    strange.enter(pack_entry(entry))
    with pytest.raises(Corrupt, match="expected a forgetting's"):
        bundle_from(evidence, strange.files, digest, world.signer.key)


def test_file_that_was_changed_makes_no_bundle(evidence: MemoryFiles) -> None:
    """Bent, another's, or checked by another key."""
    world = World()
    first = world.forget(facts(world.bear([1])))
    other = world.forget(facts(world.bear([2])))
    digest, key = put(evidence, first[0]), world.signer.key
    path = f"certificates/{digest}.json"
    for bad, said in ((b"{}", "was changed"), (encode(other[0].envelope), "another certificate")):
        evidence.write(path, bad)
        with pytest.raises(Corrupt, match=said):
            bundle_from(evidence, world.files, digest, key)
    put(evidence, first[0])
    with pytest.raises(Corrupt, match="checkpoint"):
        bundle_from(evidence, world.files, digest, signer(2).key)
