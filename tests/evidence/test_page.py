"""The page for paper: it shows what was found, and runs nothing."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from scrubjay.evidence.page import Person, render
from scrubjay.evidence.questions import Asked
from scrubjay.evidence.verify import verify
from tests.evidence.world import BLINDING, World, facts, scrub_facts, sink, volume

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


def test_column_of_nists_methods_does_not_call_conditional_one() -> None:
    """Clear and Purge stand there by themselves; CONDITIONAL says that it is neither."""
    world = World()
    made = world.forget(facts(world.bear([1]), sink("CONDITIONAL")))
    page = render(verify(world.bundle(made), world.key), digest="")
    assert "<td>CONDITIONAL</td>" not in page
    assert page.count("<td>neither Clear nor Purge: CONDITIONAL</td>") >= 3
    good = World()
    clear = render(verify(good.bundle(good.forget(facts(good.bear([1])))), good.key), digest="")
    assert "neither Clear nor Purge" not in clear


def test_page_explains_its_words_and_says_what_is_not_recorded() -> None:
    """Who gets it has nothing else to look in."""
    world = World()
    page = render(verify(world.bundle(world.forget(facts(world.bear([1])))), world.key), digest="")
    words = page[page.index("Words on this page") :]
    for each in ("Clear, Purge", "CONDITIONAL", "Sink", "Epoch", "Node", "Exporter", "Blinded id"):
        assert f'<th scope="row">{each}</th>' in words, each
    assert "Keys committed to" in words
    assert page.count("<td>not recorded</td>") == 3


def test_page_names_a_volume_only_for_who_asks_for_it() -> None:
    """With the id and the blinding value its owner sees that the page is about his volume."""
    world = World()
    (subject,) = world.bear([1])
    bundle = world.bundle(world.forget(facts([subject])))
    asked = Asked(volume(1), BLINDING)
    without = render(verify(bundle, world.key), digest="")
    assert str(volume(1)) not in without
    assert BLINDING.hex() not in without
    page = render(verify(bundle, world.key, volume=asked), digest="", volume=asked)
    for each in (str(volume(1)), BLINDING.hex(), f"<td>{subject.id}</td>"):
        assert each in page
    assert "is among its subjects" in page


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
