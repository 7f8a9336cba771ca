"""What forgers need: a story with several certificates, and JSON that differs in one place."""

import base64
import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from scrubjay.evidence.report import Report, Verdict
from tests.evidence.world import World, facts, scrub_facts

Json = Any
Path = tuple[str | int, ...]


class Story:
    """A world with a forgetting of three volumes, its scrubbing, and another forgetting."""

    def __init__(self) -> None:
        self.world = World()
        self.subjects = self.world.bear([1, 2, 3])
        others = self.world.bear([11, 12])
        self.first = self.world.forget(facts(self.subjects))
        self.early = self.world.bundle(self.first)
        self.other = self.world.forget(facts(others))
        self.second = self.world.scrub(scrub_facts(), self.first[0])
        self.other_second = self.world.scrub(scrub_facts(), self.other[0])
        self.forgotten = self.world.bundle(self.first)
        self.scrubbed = self.world.bundle(self.second, self.first)
        self.other_forgotten = self.world.bundle(self.other)
        self.other_scrubbed = self.world.bundle(self.other_second, self.other)
        self.key = self.world.key


@cache
def story() -> Story:
    """Return the story; nobody changes it."""
    return Story()


def walk(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Yield every place in a JSON value that holds no object and no list."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(each, (*path, name))
    else:
        yield path, value


def put(value: Json, path: Path, new: Json) -> Json:
    """Return a JSON value that differs in one place."""
    changed = copy.deepcopy(value)
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = new
    return changed


def others(value: Json) -> list[Json]:
    """Return values to put in the place of one: near it, of other types, and none."""
    if isinstance(value, str):
        swapped = ("B" if value[:1] == "A" else "A") + value[1:]
        return [swapped, value + "A", value[:-1], "", None, 7]
    if isinstance(value, int):
        return [value + 1, value - 1, str(value), None, -1, 1 << 70]
    return ["2026-03-02T00:40:00Z", {}, 0]


def packed(value: Json) -> bytes:
    """Return a bundle's bytes."""
    return json.dumps(value).encode()


def payload_of(bundle: Json) -> Json:
    """Return the statement in a bundle."""
    return json.loads(base64.b64decode(bundle["envelope"]["payload"]))


def with_payload(bundle: Json, payload: bytes) -> Json:
    """Return a bundle with another payload under the old signature."""
    return put(bundle, ("envelope", "payload"), base64.b64encode(payload).decode())


def is_refused(report: Report, *names: str) -> bool:
    """Whether nothing is proven, and one of these checks failed, by its name."""
    assert report.verdict is Verdict.NOT_PROVEN
    assert report.reason
    return bool(set(report.failed) & set(names)) if names else bool(report.failed)
