"""Two stages under one forgetting: what may change between them, and what may not vanish."""

import html
from dataclasses import replace

import pytest
from msgspec import structs

from scrubjay.base.errors import Invalid
from scrubjay.evidence.certificate import ASSUMED
from scrubjay.evidence.page import render
from scrubjay.evidence.report import Outcome, Report, Verdict, deadlines_of, words_of
from scrubjay.evidence.stages import check_scrubbing, parse_statement
from scrubjay.evidence.statement import Scrubbed
from scrubjay.evidence.verify import verify
from tests.evidence.world import World, facts, moment, scrub_facts

MOVED = "/mnt/new/scrubjay/pool"


def scrubbed(*, purge_within_s: int = 86_400, place: str | None = None) -> Report:
    """Return the report on a certificate in two stages."""
    world = World()
    known = replace(facts(world.bear([1, 2])), purge_within_s=purge_within_s)
    first = world.forget(known)
    later = replace(scrub_facts(), logged=("slots.scrubbed, 64",))
    if place is not None:
        media = tuple(structs.replace(each, place=place) for each in later.media)
        later = replace(later, media=media)
    return verify(world.bundle(world.scrub(later, first[0]), first), world.key, now=moment(1400))


def test_second_stage_of_a_home_that_moved_is_believed_and_shows_both_places() -> None:
    """A medium is told by its kind and id; that it was renamed costs nobody his certificate."""
    report = scrubbed(place=MOVED)
    assert report.verdict is Verdict.ERASED
    sentence = report.check("scrubbing").sentence
    page = render(report, digest="")
    for place in ("/var/lib/scrubjay/pool", MOVED):
        assert place in sentence
        assert place in page
    assert MOVED not in scrubbed().check("scrubbing").sentence


def test_words_of_both_stages_are_shown_with_their_stage() -> None:
    """What a person asserted in the first stage stands in the certificate of the second too."""
    report = scrubbed()
    assert words_of(report.stages, "logged") == (
        "forgotten: volume.forgotten, epoch 6",
        "scrubbed: slots.scrubbed, 64",
    )
    assert words_of(report.stages, "asserted") == (
        "forgotten: The operator keeps no image of this disk.",
    )
    assert words_of(report.stages, "assumed") == tuple(
        f"forgotten and scrubbed: {each}" for each in ASSUMED
    )
    page = html.unescape(render(report, digest=""))
    for kind in ("logged", "asserted", "assumed"):
        for each in words_of(report.stages, kind):
            assert each in page, each


def test_deadline_missed_in_the_first_stage_is_told_in_the_second() -> None:
    """Once the slots are overwritten, the missed purge_within is remarked and printed still."""
    report = scrubbed(purge_within_s=1)
    assert report.verdict is Verdict.ERASED
    (remark,) = [each for each in report.remarks if "purge_within" in each]
    assert remark.startswith("forgotten: purge_within")
    assert "is missed" in remark
    assert "<td>missed" in render(report, digest="")


def test_deadline_that_was_pending_is_told_by_the_later_stage_alone() -> None:
    """What was still to come is no news once it came; nothing else is left out."""
    shown = [(stage, each.name, each.state) for stage, each in deadlines_of(scrubbed().stages)]
    assert shown == [("forgotten", "purge_within", "met"), ("scrubbed", "scrub_within", "met")]
    world = World()
    made = world.forget(facts(world.bear([1])))
    report = verify(world.bundle(made), world.key)
    assert [each.name for _, each in deadlines_of(report.stages)] == [
        "scrub_within",
        "purge_within",
    ]


def test_purge_within_of_a_destruction_says_what_it_does_not_say() -> None:
    """The volumes went whole; whether anything was forgotten inside before is not certified."""
    report = scrubbed()
    sentence = report.check("forgetting: deadlines").sentence
    assert "forgotten whole by then" in sentence
    assert "it is counted from 2026-03-0" in sentence
    assert "nothing is said of what was forgotten inside while they lived" in sentence
    assert "forgotten whole by then" in render(report, digest="")
    late = scrubbed(purge_within_s=1)
    assert "forgotten whole only later" in late.check("forgetting: deadlines").sentence


def test_certificate_assumes_that_no_copy_of_the_sink_is_left() -> None:
    """The largest assumption of all: a snapshot of the host takes the sink's old key with it."""
    assert any("copy of the sink" in each and "snapshot" in each for each in ASSUMED)
    assert any("copy of the sink" in each for each in words_of(scrubbed().stages, "assumed"))


def test_times_of_a_scrubbing_claim_no_more_than_a_sample() -> None:
    """8 of 64 slots were looked at: nobody says that all were read back."""
    check = scrubbed().check("times")
    assert check.outcome is Outcome.PASSED
    assert "sampled" in check.sentence
    assert "read back" not in check.sentence


@pytest.mark.parametrize("changes", [{"kind": "memory"}, {"id": "another"}])
def test_second_stage_about_another_medium_is_refused(changes: dict[str, str]) -> None:
    """Places may differ; what a medium is may not."""
    world = World()
    first, _ = world.forget(facts(world.bear([1])))
    second, _ = world.scrub(scrub_facts(), first)
    before, after = parse_statement(first.payload), parse_statement(second.payload).predicate
    assert isinstance(after, Scrubbed)
    assert check_scrubbing(before, first.digest, after)
    media = tuple(structs.replace(each, **changes) for each in after.media)
    with pytest.raises(Invalid, match="its media are not those"):
        check_scrubbing(before, first.digest, structs.replace(after, media=media))
