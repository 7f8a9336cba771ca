"""A certificate on paper: laid out like the sample certificate of NIST SP 800-88.

The page shows what the verifier found, beside what the certificate says. Everything on it
may have been written by a stranger, so everything is escaped, and the page runs no script
and loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from scrubjay import __version__
from scrubjay.evidence.deriving import due_at, meaning_of, spell
from scrubjay.evidence.entries import blind_volume
from scrubjay.evidence.questions import Asked
from scrubjay.evidence.report import Report, Verdict, deadlines_of, rows_of, words_of
from scrubjay.evidence.statement import Certified, Forgotten, Retired, Scrubbed, Statement

__all__ = ["Person", "render"]

_TEMPLATE = "certificate.html"
_COLOURS = {
    Verdict.ERASED: "good",
    Verdict.CONDITIONAL: "fair",
    Verdict.NOT_PROVEN: "bad",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Who answers for the sanitization; what is empty is a line to fill in by hand."""

    name: str = ""
    position: str = ""
    organisation: str = ""
    location: str = ""
    contact: str = ""


def render(
    report: Report, *, digest: str, person: Person | None = None, volume: Asked | None = None
) -> str:
    """Return the page, HTML in UTF-8, for a report on the bundle with this SHA-256.

    With `volume`, which the report was asked about, the page names it: for its owner alone.
    """
    first = _predicate(report.first or report.statement)
    second = _predicate(report.statement)
    return _template().render(
        report=report,
        colour=_COLOURS[report.verdict],
        digest=digest,
        person=person or Person(),
        volume=volume,
        blinded="" if volume is None else blind_volume(volume.blinding, volume.volume),
        forgotten=first if isinstance(first, Forgotten) else None,
        scrubbed=second if isinstance(second, Scrubbed) else None,
        retired=second if isinstance(second, Retired) else None,
        newest=second,
        rows=rows_of(report.checks),
        deadlines=deadlines_of(report.stages),
        logged=words_of(report.stages, "logged"),
        asserted=words_of(report.stages, "asserted"),
        assumed=words_of(report.stages, "assumed"),
        verifier=f"Scrubjay {__version__}",
    )


def _predicate(statement: Statement | None) -> Certified | None:
    return None if statement is None else statement.predicate


def _method_of(worth: str) -> str:
    """Return a grade for a column that has methods of NIST in it: CONDITIONAL is none."""
    return worth if worth in ("Clear", "Purge") else f"neither Clear nor Purge: {worth}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("scrubjay.evidence", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["spell"] = spell
    environment.filters["method"] = _method_of
    environment.filters["meaning"] = meaning_of
    environment.filters["due"] = lambda each: spell(due_at(each))
    return environment.get_template(_TEMPLATE)
