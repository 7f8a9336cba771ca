"""The page for paper: it shows what was found, and runs nothing."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from scrubjay.evidence.page import Person, render
from scrubjay.evidence.verify import verify
from tests.evidence.world import World, facts, scrub_facts, sink

EVIL = "<script>alert('x')</script>\"'&"


class Elements(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_page_of_a_certificate_has_the_fields_of_the_sample() -> None:
    """The sections of NIST's sample, the verdict, and every check of the verifier."""
    world = World()
    first = world.forget(facts(world.bear([1, 2])))
    second = world.scrub(scrub_facts(), first[0])
    report = verify(world.bundle(second, first), world.key)
    page = html.unescape(render(report, digest="ab" * 32, person=Person(name="A. Jay")))
    for text in (
        "Certificate of sanitization",
        "Person performing sanitization",
        "Organisation",
        "A. Jay",
        "Media information",
        "Sanitization details",
        "Method type",
        "Technique",
        "Tool used",
        "Verification method",
        "After sanitization",
        "Validation",
        "Signature",
        "<strong>ERASED</strong>",
        "overwrite, after the keys were gone",
        "8 of 64",
        "ab" * 32,
        *(each.sentence for each in report.checks),
        *report.remarks,
    ):
        assert text in page, text


def test_page_of_a_conditional_erasure_says_why() -> None:
    """The verdict and its reason stand together."""
    world = World()
    made = world.forget(facts(world.bear([1]), sink("CONDITIONAL")))
    page = render(verify(world.bundle(made), world.key), digest="")
    assert re.search(r"<strong>ERASED, CONDITIONAL</strong>\s*<p>file sink on ext4", page)


def test_page_of_what_is_not_proven_shows_nothing_of_it() -> None:
    """An unsigned certificate does not get onto paper, only the checks that it failed."""
    world = World()
    made = world.forget(facts(world.bear([1])))
    forged = json.loads(world.bundle(made))
    forged["envelope"]["signatures"][0]["keyid"] = EVIL
    page = render(verify(json.dumps(forged).encode(), world.key), digest="")
    assert "<strong>NOT PROVEN</strong>" in page
    assert "No certificate to show" in page
    assert "medium-0" not in page


def test_page_with_markup_in_every_text_shows_it_as_text() -> None:
    """Names and sentences are escaped, and the page has no element that could run or load."""
    world = World()
    known = facts(world.bear([1]), sink())
    held = tuple(replace(each, place=EVIL) for each in known.held)
    media = tuple(replace(each, place=EVIL) for each in known.media)
    made = world.forget(
        replace(known, held=held, media=media, logged=(EVIL,), asserted=(EVIL,), assumed=(EVIL,))
    )
    report = verify(world.bundle(made), world.key)
    page = render(report, digest=EVIL, person=Person(*([EVIL] * 5)))
    found = Elements(page)
    assert page.count(html.escape(EVIL, quote=False)[:14]) > 10
    assert EVIL not in page
    assert not found.tags & {"script", "img", "iframe", "link", "object", "form", "a", "svg"}
    assert not {each for each in found.attributes if each.startswith("on")} | (
        found.attributes & {"src", "href", "style"}
    )
    assert "default-src 'none'" in page
    assert "@media print" in page
