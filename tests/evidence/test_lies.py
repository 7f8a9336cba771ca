"""What the holder of the log's key could sign and log: only the rules are left to find it."""

import base64
import json

import msgspec
import pytest

from scrubjay.evidence.certificate import Certificate
from scrubjay.evidence.report import Verdict
from scrubjay.evidence.stages import parse_statement
from scrubjay.evidence.verify import verify
from tests.evidence.forging import Json, Path, is_refused, packed, put
from tests.evidence.world import World, facts, scrub_facts

DESTRUCTION = ("predicate", "destruction")
SUBJECT = ("predicate", "subjects", 0)
NEVER = "2031-01-01T00:00:00Z"
LIES: list[tuple[Path, Json, str]] = [
    ((*DESTRUCTION, "epoch_after"), 5, "epochs"),
    ((*DESTRUCTION, "epoch_before"), 6, "epochs"),
    ((*SUBJECT, "birth", "epoch"), 6, "epochs"),
    ((*SUBJECT, "birth", "epoch"), 1, "births"),
    ((*SUBJECT, "birth", "born_at"), "2026-02-01T00:00:00Z", "births"),
    ((*SUBJECT, "birth", "born_at"), NEVER, "times"),
    ((*SUBJECT, "birth", "record"), "0" * 64, "statement"),
    ((*SUBJECT, "birth", "log_index"), 1, "births"),
    ((*SUBJECT, "id"), "0" * 64, "statement"),
    ((*SUBJECT, "tenant"), "0" * 64, "births"),
    ((*SUBJECT, "end", "decided_at"), NEVER, "times"),
    ((*SUBJECT, "end", "withheld_at"), NEVER, "times"),
    ((*SUBJECT, "end", "exporter"), "killed", "times"),
    ((*DESTRUCTION, "forgotten_at"), NEVER, "times"),
    (("predicate", "issued_at"), "2026-03-01T09:00:00Z", "times"),
    (("predicate", "pool"), "00000000-0000-0000-0000-000000000000", "births"),
    ((*DESTRUCTION, "sinks", 0, "worth"), "Purge", "grade"),
    ((*DESTRUCTION, "sinks", 0, "worth"), "CONDITIONAL", "grade"),
    ((*DESTRUCTION, "sinks", 0, "id"), "00000000-0000-0000-0000-000000000000", "inventory"),
    ((*DESTRUCTION, "media", 0, "method"), "Purge", "media"),
    ((*DESTRUCTION, "media", 0, "id"), "another", "inventory"),
    (("predicate", "grade", "value"), "Purge", "grade"),
    (("predicate", "grade", "value"), "CONDITIONAL", "grade"),
    (("predicate", "verified", 0, "result"), "failed", "verified"),
    (("predicate", "verified", 0, "mismatches"), 1, "verified"),
    (("predicate", "verified", 0, "examined"), 0, "verified"),
    (("predicate", "verified", 0, "total"), 2, "verified"),
    (("predicate", "verified", 0, "id"), "another", "inventory"),
    (("predicate", "verified", 0, "kind"), "backup", "inventory"),
    (("predicate", "verified", 0, "at"), "2026-03-01T09:00:00Z", "times"),
    (("predicate", "verified", 0, "at"), NEVER, "times"),
    (("predicate", "inventory", 0, "id"), "another", "inventory"),
    (("predicate", "inventory", 0, "kind"), "backup", "inventory"),
    (("predicate", "inventory", 0, "place"), "elsewhere", "inventory"),
    (("predicate", "inventory", 1, "place"), "elsewhere", "inventory"),
    (("predicate", "inventory", 0, "holds"), "traces", "inventory"),
    (("predicate", "inventory", 0, "state"), "kept", "inventory"),
    (("predicate", "inventory", 0, "because"), "for fun", "inventory"),
    (("predicate", "inventory", 1, "state"), "erased", "inventory"),
    (("predicate", "inventory", 1, "until"), NEVER, "inventory"),
    (("predicate", "inventory", 1, "until"), None, "inventory"),
    (("predicate", "inventory", 1, "because"), None, "inventory"),
    (("predicate", "deadlines", 0, "state"), "met", "deadlines"),
    (("predicate", "deadlines", 0, "met_at"), "2026-03-02T00:41:00Z", "deadlines"),
    (("predicate", "deadlines", 0, "from_at"), "2026-03-02T00:41:00Z", "deadlines"),
    (("predicate", "deadlines", 0, "name"), "purge_within", "deadlines"),
    (("predicate", "deadlines", 1, "state"), "missed", "deadlines"),
    (("predicate", "deadlines", 1, "met_at"), NEVER, "deadlines"),
    (("predicate", "deadlines", 1, "from_at"), "2026-03-02T00:40:30Z", "deadlines"),
    (("subject", 0, "name"), "0" * 64, "statement"),
    (("subject", 0, "digest", "sha256"), "0" * 64, "statement"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"), LIES, ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in LIES]
)
def test_lie_that_the_log_signed_is_found_by_its_rule(path: Path, value: Json, name: str) -> None:
    """Signed and logged like any other: only the rules are left to find it."""
    world = World()
    truth = world.forget(facts(world.bear([1, 2])))
    assert verify(world.bundle(truth), world.key).verdict is Verdict.ERASED
    lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    bundle = _bundle_of_a_lie(world, world.sign(lie), json.loads(world.bundle(truth)))
    assert is_refused(verify(bundle, world.key), name)


def _bundle_of_a_lie(world: World, lie: tuple[Certificate, int], known: Json) -> bytes:
    """Return a bundle, whose births stay those of the truth wherever the lie says they are."""
    made, index = lie
    return packed(
        {
            **known,
            "envelope": json.loads(msgspec.json.encode(made.envelope)),
            "leaf": {
                "entry": made.entry.decode(),
                "index": index,
                "proof": _proof(world, index),
            },
            "births": [{**each, "proof": _proof(world, each["index"])} for each in known["births"]],
            "checkpoint": world.files.files["checkpoint"].decode(),
        }
    )


def _proof(world: World, index: int) -> list[str]:
    proof = world.log.prove_inclusion(index, world.newest())
    return [base64.b64encode(each).decode() for each in proof]


SECOND_LIES: list[tuple[Path, Json, str]] = [
    (("predicate", "forgotten"), "0" * 64, "scrubbing"),
    (("predicate", "forgotten_at"), "2026-03-02T00:40:00Z", "scrubbing"),
    (("predicate", "pool"), "00000000-0000-0000-0000-000000000000", "scrubbing"),
    (("predicate", "grade", "value"), "Purge", "scrubbing"),
    (("predicate", "issued_at"), "2026-03-01T09:00:00Z", "times"),
    (("predicate", "media", 0, "id"), "another", "inventory"),
    (("predicate", "media", 0, "place"), "elsewhere", "inventory"),
    (("predicate", "media", 0, "technique"), "discard", "media"),
    (("predicate", "media", 0, "method"), "Purge", "media"),
    (("predicate", "verified", 0, "mismatches"), 1, "verified"),
    (("predicate", "verified", 0, "at"), "2026-03-02T00:40:00Z", "times"),
    (("predicate", "inventory", 0, "id"), "another", "inventory"),
    (("predicate", "inventory", 1, "id"), "another", "scrubbing"),
    (("predicate", "deadlines", 0, "within_s"), 90_000, "scrubbing"),
    (("predicate", "deadlines", 0, "met_at"), "2026-03-02T00:41:00Z", "deadlines"),
    (("predicate", "deadlines", 0, "state"), "missed", "deadlines"),
    (("subject", 0, "name"), "0" * 64, "scrubbing"),
]


@pytest.mark.parametrize(
    ("path", "value", "name"),
    SECOND_LIES,
    ids=[f"{'.'.join(map(str, p))}={v}" for p, v, _ in SECOND_LIES],
)
def test_lie_about_scrubbing_that_the_log_signed_is_found(
    path: Path, value: Json, name: str
) -> None:
    """The second stage has to fit the first."""
    world = World()
    first = world.forget(facts(world.bear([1, 2])))
    truth = world.scrub(scrub_facts(), first[0])
    assert verify(world.bundle(truth, first), world.key).verdict is Verdict.ERASED
    lie = parse_statement(packed(put(json.loads(truth[0].payload), path, value)))
    made = world.sign(lie)
    assert is_refused(verify(world.bundle(made, first), world.key), name)


def test_scrubbing_logged_before_its_forgetting_is_found() -> None:
    """The log's order is part of the evidence."""
    world, draft = World(), World()
    subjects = world.bear([1])
    draft.bear([1])
    first = draft.forget(facts(subjects))[0]
    second = world.scrub(scrub_facts(), first)
    later = world.enter(first.entry)
    bundle = world.bundle(second, (first, later))
    assert is_refused(verify(bundle, world.key), "scrubbing")
