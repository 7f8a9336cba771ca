"""What has to be true among the values of a certificate; builder and verifier share it (I8).

Each rule looks at a predicate and returns a sentence for an auditor, or raises Invalid with
what contradicts what. Nothing here trusts a value that could have been entered: results,
states and grades are derived anew from counts, times and places, and compared.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from scrubjay.base.errors import Invalid
from scrubjay.evidence.deriving import (
    deadline_state,
    decided_at,
    due_at,
    grade_of,
    is_erased,
    meaning_of,
    passed,
    spell,
)
from scrubjay.evidence.ordering import in_order as _in_order
from scrubjay.evidence.ordering import unique as _unique
from scrubjay.evidence.retirement import RULES as _OF_RETIREMENTS
from scrubjay.evidence.statement import (
    Certified,
    Copy,
    CopyKind,
    Forgotten,
    MediumErased,
    MediumScrubbed,
    Predicate,
    Retired,
    Scrubbed,
)

__all__ = ["NAMES", "Rule", "rules_of"]

_CLEAR_AT_MOST = frozenset({"file", "memory"})
_REQUIRED: tuple[CopyKind, ...] = ("nodes", "cache", "catalog", "exporter", "log")
_HOLDS = {
    "sink": "keys",
    "superblocks": "keys",
    "nodes": "keys",
    "exporter": "keys",
    "escrow": "keys",
    "medium": "ciphertext",
    "catalog": "traces",
    "log": "traces",
}
_TOO_MUCH = frozenset({("zero range", "Clear"), ("discard", "Clear")})
"""Reading zeros says little of what lies beneath."""
_MAY_KEEP_KEYS = frozenset({"escrow", "backup", "replica"})


# --- the rules ----------------------------------------------------------------------------


def _epochs(predicate: Forgotten) -> str:
    event = predicate.destruction
    before, after = event.epoch_before, event.epoch_after
    if after <= before:
        raise Invalid(f"the sink's epoch went from {before} to {after}, expected a later one")
    for number, each in enumerate(predicate.subjects, 1):
        if each.birth.epoch > before:
            raise Invalid(f"volume {number} was born in epoch {each.birth.epoch}, after {before}")
    return f"The sink went from epoch {before} to {after}, and no volume was born later."


def _times(predicate: Predicate) -> str:
    if isinstance(predicate, Scrubbed):
        for seen in predicate.verified:
            _in_order(
                [
                    ("forgotten", predicate.forgotten_at),
                    ("looked", seen.at),
                    ("issued", predicate.issued_at),
                ]
            )
        return (
            "The slots were overwritten and sampled; the samples were taken after the keys were "
            "forgotten, and before this was issued."
        )
    forgotten_at = predicate.destruction.forgotten_at
    for each in predicate.subjects:
        end = each.end
        if (end.exporter_at is None) != (end.exporter == "not attached"):
            raise Invalid(f"exporter {end.exporter}: expected a time just where there was one")
        _in_order(
            [
                ("born", each.birth.born_at),
                ("decided", end.decided_at),
                ("withheld", end.withheld_at),
                ("exporter ended", end.exporter_at or end.withheld_at),
                ("forgotten", forgotten_at),
                ("issued", predicate.issued_at),
            ]
        )
    first = min(each.end.decided_at for each in predicate.subjects)
    withheld_at = max(each.end.withheld_at for each in predicate.subjects)
    for look in predicate.verified:
        since = withheld_at if look.kind == "sink" else first
        _in_order([("withheld", since), ("looked", look.at), ("issued", predicate.issued_at)])
    return f"Decided, withheld, forgotten at {spell(forgotten_at)}, issued: in this order."


def _verified(predicate: Predicate) -> str:
    _unique([(each.kind, each.id) for each in predicate.verified], "verification")
    for each in predicate.verified:
        if (each.result == "passed") != passed(each):
            raise Invalid(
                f"verification of {each.kind} {each.id}: {each.result}, but {each.examined} of "
                f"{each.total} were examined and {each.mismatches} did not match"
            )
    known = {(each.kind, each.id) for each in predicate.inventory}
    for each in predicate.verified:
        if (each.kind, each.id) not in known:
            raise Invalid(f"verification of {each.kind} {each.id}: not in the inventory")
    good = sum(map(passed, predicate.verified))
    return f"{good} of {len(predicate.verified)} verifications passed, as their counts say."


def _inventory(predicate: Predicate) -> str:
    copies = {(each.kind, each.id) for each in predicate.inventory}
    _unique([(each.kind, each.id) for each in predicate.inventory], "copy")
    for each in predicate.inventory:
        _check_copy(each, predicate)
    media = {each.id for each in _media(predicate)}
    expected: set[tuple[str, str]] = {("medium", each) for each in media}
    if isinstance(predicate, Forgotten):
        expected |= {("superblocks", each) for each in media}
        expected |= {("sink", str(each.id)) for each in predicate.destruction.sinks}
        kinds = {each.kind for each in predicate.inventory}
        if missing := [each for each in _REQUIRED if each not in kinds]:
            raise Invalid(f"the inventory names no {', no '.join(missing)}")
        foreign = {each for each in copies if each[0] in {"sink", "medium", "superblocks"}}
        if foreign - expected:
            raise Invalid("the inventory names a sink or medium that took no part")
        places = {each.id: each.place for each in predicate.destruction.media}
        places |= {str(each.id): each.place for each in predicate.destruction.sinks}
        _lie_at(places, [each for each in predicate.inventory if (each.kind, each.id) in foreign])
    else:
        places = {each.id: each.place for each in predicate.media}
        _lie_at(places, [each for each in predicate.inventory if each.kind == "medium"])
    if absent := sorted(expected - set(copies)):
        raise Invalid(f"the inventory leaves out {' '.join(absent[0])}")
    kept = sum(each.state == "kept" for each in predicate.inventory)
    return f"{len(copies)} copies are known: {len(copies) - kept} erased, {kept} kept and said why."


def _media_rule(predicate: Predicate) -> str:
    if isinstance(predicate, Scrubbed):
        _unique([each.id for each in predicate.media], "medium")
        for each in predicate.media:
            if each.method == "Purge" or (each.technique, each.method) in _TOO_MUCH:
                raise Invalid(f"medium {each.id}: {each.technique} called {each.method}")
        return "Each medium's technique can be what it is called."
    _unique([each.id for each in predicate.destruction.media], "medium")
    for medium in predicate.destruction.media:
        if medium.method != predicate.grade.value:
            raise Invalid(f"medium {medium.id}: {medium.method}, under {predicate.grade.value}")
    return "Each medium was erased cryptographically, by the method of the grade."


def _grade(predicate: Forgotten) -> str:
    sinks = predicate.destruction.sinks
    _unique([str(each.id) for each in sinks], "sink")
    for each in sinks:
        if each.kind in _CLEAR_AT_MOST and each.worth == "Purge":
            raise Invalid(f"a {each.kind} sink called Purge, expected Clear at most")
    value, reason = grade_of(sinks, predicate.inventory)
    if predicate.grade.value != value:
        raise Invalid(f"graded {predicate.grade.value}, but {value} follows: {reason}")
    return f"{value}: {reason}."


def _deadlines(predicate: Predicate) -> str:
    named = {each.name: each for each in predicate.deadlines}
    scrub = named.get("scrub_within")
    if scrub is None or len(named) != len(predicate.deadlines):
        raise Invalid("expected scrub_within, and no deadline twice")
    for each in predicate.deadlines:
        state = deadline_state(due=due_at(each), met_at=each.met_at, now=predicate.issued_at)
        if each.state != state:
            raise Invalid(f"{each.name} called {each.state}, but by its times it was {state}")
        _in_order([("begun", each.from_at), ("met", each.met_at or each.from_at)])
        _in_order([("met", each.met_at or each.from_at), ("issued", predicate.issued_at)])
    if scrub.from_at != _forgotten_at(predicate):
        raise Invalid("scrub_within does not begin when the keys were forgotten")
    purge = named.get("purge_within")
    if purge and isinstance(predicate, Forgotten):
        decided = decided_at(predicate.scope, predicate.subjects)
        if purge.from_at > decided:
            raise Invalid("purge_within begins later than the first end was decided")
    if scrub.met_at != _scrubbed_at(predicate):
        raise Invalid("scrub_within is not met when the last medium was sampled")
    return " ".join(
        f"{each.name} {each.state}, due {spell(due_at(each))}{meaning_of(each)}."
        for each in predicate.deadlines
    )


def _tenant(predicate: Forgotten) -> str:
    _unique([each.id for each in predicate.subjects], "volume")
    tenants = len({each.tenant for each in predicate.subjects})
    if predicate.scope == "volumes":
        return f"{_volumes(predicate)}; no tenant was closed."
    if tenants != 1:
        raise Invalid(f"the closing of one tenant names volumes of {tenants}")
    return f"{_volumes(predicate)}, all of the tenant that was closed."


Rule = Callable[[], str]
_OF_FORGETTINGS: Mapping[str, Callable[[Forgotten], str]] = {
    "epochs": _epochs,
    "times": _times,
    "verified": _verified,
    "inventory": _inventory,
    "media": _media_rule,
    "grade": _grade,
    "deadlines": _deadlines,
    "tenant": _tenant,
}
_OF_SCRUBBINGS: Mapping[str, Callable[[Scrubbed], str]] = {
    "times": _times,
    "verified": _verified,
    "inventory": _inventory,
    "media": _media_rule,
    "deadlines": _deadlines,
}
NAMES = tuple(_OF_FORGETTINGS)
"""Every rule there is, in the order in which a report lists them."""


def rules_of(predicate: Certified) -> dict[str, Rule]:
    """Return the rules that a predicate has to keep, by name: each a call that says how."""
    if isinstance(predicate, Retired):
        return {name: partial(rule, predicate) for name, rule in _OF_RETIREMENTS.items()}
    if isinstance(predicate, Scrubbed):
        return {name: partial(rule, predicate) for name, rule in _OF_SCRUBBINGS.items()}
    return {name: partial(rule, predicate) for name, rule in _OF_FORGETTINGS.items()}


# --- leaves -------------------------------------------------------------------------------


def _check_copy(copy: Copy, predicate: Predicate) -> None:
    name = f"{copy.kind} {copy.id}"
    if copy.holds != _HOLDS.get(copy.kind, copy.holds):
        raise Invalid(f"{name}: said to hold {copy.holds}, expected {_HOLDS[copy.kind]}")
    if copy.state == "erased":
        if not is_erased(copy, predicate.verified):
            raise Invalid(f"{name}: called erased, but no verification of it passed")
        if copy.until is not None or copy.because is not None:
            raise Invalid(f"{name}: called erased, and kept for a reason")
        return
    if copy.because is None or (copy.until is None and copy.holds != "traces"):
        raise Invalid(f"{name}: kept, expected until when and why")
    if copy.holds == "plaintext" or (copy.holds == "keys" and copy.kind not in _MAY_KEEP_KEYS):
        raise Invalid(f"{name}: {copy.holds} kept, expected them gone")
    if copy.kind != "medium":
        _in_order([("issued", predicate.issued_at), ("kept until", copy.until)])
    elif isinstance(predicate, Scrubbed):
        raise Invalid(f"{name}: kept, in a certificate that it was scrubbed")
    elif copy.until not in {due_at(each) for each in predicate.deadlines}:
        raise Invalid(f"{name}: not kept until a deadline")


def _lie_at(places: Mapping[str, str], copies: Sequence[Copy]) -> None:
    """Check that sinks and media lie in the inventory where the rest of a statement says."""
    for each in copies:
        if each.id in places and each.place != places[each.id]:
            raise Invalid(f"{each.kind} {each.id}: it lies elsewhere in the inventory")


def _media(predicate: Predicate) -> Sequence[MediumErased | MediumScrubbed]:
    return predicate.media if isinstance(predicate, Scrubbed) else predicate.destruction.media


def _forgotten_at(predicate: Predicate) -> dt.datetime:
    if isinstance(predicate, Scrubbed):
        return predicate.forgotten_at
    return predicate.destruction.forgotten_at


def _scrubbed_at(predicate: Predicate) -> dt.datetime | None:
    """Return when the last medium was sampled; None where one is kept still."""
    media = [each for each in predicate.inventory if each.kind == "medium"]
    if not media or any(each.state == "kept" for each in media):
        return None
    return max((each.at for each in predicate.verified if each.kind == "medium"), default=None)


def _volumes(predicate: Forgotten) -> str:
    count = len(predicate.subjects)
    return "1 volume" if count == 1 else f"{count} volumes"
