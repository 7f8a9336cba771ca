"""The repository keeps its own rules, and each rule fires on a planted violation."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from tests.project import rules
from tests.project.rules import Rule, Source

REPOSITORY = rules.sources()


def _planted(path: str, text: str) -> Source:
    return Source(PurePosixPath(path), text)


def _is_python(source: Source) -> bool:
    return source.path.suffix == ".py"


def _is_lock(source: Source) -> bool:
    return source.path.suffix == ".lock"


@pytest.mark.parametrize(
    ("rule", "covers"),
    [
        *((rule, _is_python) for rule in rules.PYTHON_RULES),
        *((rule, lambda _: True) for rule in rules.TEXT_RULES),
        *((rule, _is_lock) for rule in rules.LOCK_RULES),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_repository_under_each_rule_has_no_offence(
    rule: Rule, covers: Callable[[Source], bool]
) -> None:
    """Every file that a rule covers keeps it, and there are such files."""
    covered = [source for source in REPOSITORY if covers(source)]
    assert covered
    offences = [offence for source in covered for offence in rule(source)]
    assert not offences, "\n".join([str(rule.__doc__), *offences])


DOC = '"""What it is."""\n'
VIOLATIONS: list[tuple[Rule, str, str]] = [
    (rules.module_is_short, "src/scrubjay/engine/map.py", "x = 1\n" * 501),
    (rules.name_says_what_it_holds, "src/scrubjay/engine/utils.py", DOC),
    (rules.name_says_what_it_holds, "tests/helpers/test_map.py", DOC),
    (rules.name_says_what_it_holds, "src/scrubjay/control/volume_manager.py", DOC),
    (rules.public_names_are_documented, "src/scrubjay/engine/map.py", "x = 1\n"),
    (rules.public_names_are_documented, "src/scrubjay/engine/map.py", DOC + "class Map: x = 1\n"),
    (
        rules.public_names_are_documented,
        "src/scrubjay/engine/map.py",
        DOC + "def load(): return 1\n",
    ),
    (
        rules.public_names_are_documented,
        "src/scrubjay/engine/map.py",
        DOC + 'class Map:\n    """A map."""\n    async def load(self): return 1\n',
    ),
    (
        rules.no_test_asserts_elapsed_time,
        "tests/test_map.py",
        "import time\ndef test_a(): assert time.monotonic() < 5\n",
    ),
    (
        rules.no_test_asserts_elapsed_time,
        "tests/test_map.py",
        "from time import monotonic as now\ndef test_a(x):\n    took = now()\n    assert took\n",
    ),
    (
        rules.no_test_asserts_elapsed_time,
        "tests/test_map.py",
        "import time as t\ndef test_a():\n    spent: int = t.time_ns()\n    assert spent - 1\n",
    ),
    (rules.tests_are_named_for_their_promise, "tests/test_map.py", f"def test_map():\n    {DOC}"),
    (
        rules.tests_are_named_for_their_promise,
        "tests/test_map.py",
        "class TestMap:\n    def test_map_when_empty_reads_zeros(self): return\n",
    ),
    (
        rules.input_is_checked_by_raising,
        "src/scrubjay/api/volumes.py",
        "def create(*, size):\n    assert size > 0\n",
    ),
    (
        rules.input_is_checked_by_raising,
        "src/scrubjay/nbd/wire.py",
        "class Wire:\n    def receive(self, data):\n        assert len(data) > 4\n",
    ),
    (rules.nothing_is_unfinished, "src/scrubjay/engine/map.py", "x = 1  # TODO: more\n"),
    (rules.nothing_is_unfinished, "src/scrubjay/engine/map.py", "raise NotImplementedError\n"),
    (rules.nothing_is_unfinished, "src/scrubjay/engine/map.py", "def load(): ...\n"),
    (rules.nothing_is_unfinished, "src/scrubjay/engine/map.py", f"def load():\n    {DOC}    ...\n"),
    (rules.pure_rooms_take_what_they_need, "src/scrubjay/engine/map.py", "open('map')\n"),
    (
        rules.pure_rooms_take_what_they_need,
        "src/scrubjay/keys/aead.py",
        "key = AESGCM.generate_key(256)\n",
    ),
    (rules.exceptions_give_their_reason, "src/scrubjay/engine/map.py", "x = 1  # noqa\n"),
    (rules.exceptions_give_their_reason, "src/scrubjay/engine/map.py", "x = 1  # noqa: E501\n"),
    (
        rules.exceptions_give_their_reason,
        "src/scrubjay/engine/map.py",
        "x = 1  # type: ignore[arg]\n",
    ),
    (rules.linter_exceptions_give_their_reason, "pyproject.toml", 'ignore = [\n    "S101",\n]\n'),
    (rules.no_index_address, "Makefile", "pip install --index-url http://mirror/ x\n"),
    (rules.no_index_address, "docs/install.md", "from https://pypi.org/project/scrubjay\n"),
    (rules.no_index_address, "requirements.lock", "--find-links /wheels\n"),
    (rules.changelog_fragment_is_named, "changelog.d/resize.md", "x\n"),
    (rules.changelog_fragment_is_named, "changelog.d/+resize.feature.md", "x\n"),
    (rules.lock_pins_versions_and_hashes, "requirements.lock", "rich==1.0\n"),
    (
        rules.lock_pins_versions_and_hashes,
        "requirements.lock",
        "rich>=1 \\\n    --hash=sha256:aa\n",
    ),
    (
        rules.lock_pins_versions_and_hashes,
        "requirements.lock",
        "rich @ https://mirror/rich.whl \\\n    --hash=sha256:aa\n",
    ),
]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    VIOLATIONS,
    ids=[f"{rule.__name__}-{number}" for number, (rule, _, _) in enumerate(VIOLATIONS)],
)
def test_rule_on_planted_violation_names_the_place(rule: Rule, path: str, text: str) -> None:
    """Each rule can fail: it names the file of a violation, with line and what is wrong."""
    offences = rule(_planted(path, text))
    assert offences
    assert all(re.fullmatch(rf"{re.escape(path)}:\d+: .+", offence) for offence in offences)


CLEAN: list[tuple[Rule, str, str]] = [
    (
        rules.no_test_asserts_elapsed_time,
        "tests/test_map.py",
        "import time\ndef test_a(clock):\n    time.monotonic()\n    assert clock.now() == 3\n",
    ),
    (
        rules.nothing_is_unfinished,
        "src/scrubjay/base/ports.py",
        f"class Clock(Protocol):\n    def now(self) -> int:\n        {DOC}        ...\n",
    ),
    (
        rules.input_is_checked_by_raising,
        "src/scrubjay/api/volumes.py",
        "def create(*, size):\n    pages = 3\n    assert pages\n",
    ),
    (
        rules.exceptions_give_their_reason,
        "src/scrubjay/engine/map.py",
        "x = 1  # noqa: PLR0915 - the hot path, see bench/engine\n",
    ),
    (rules.changelog_fragment_is_named, "changelog.d/+volume-resize.added.md", "x\n"),
    (rules.lock_pins_versions_and_hashes, "a.lock", "a==1.0 ; x == 'y' \\\n    --hash=sha256:aa\n"),
]


@pytest.mark.parametrize(
    ("rule", "path", "text"), CLEAN, ids=[rule.__name__ for rule, _, _ in CLEAN]
)
def test_rule_on_what_it_allows_stays_silent(rule: Rule, path: str, text: str) -> None:
    """A rule does not fire on the nearest thing that is right."""
    assert rule(_planted(path, text)) == []


def test_rules_in_planted_violations_are_all_of_them() -> None:
    """No rule is without a violation that shows that it fires."""
    shown = {rule for rule, _, _ in VIOLATIONS}
    assert shown == {*rules.PYTHON_RULES, *rules.TEXT_RULES, *rules.LOCK_RULES}


def test_locks_of_package_and_project_pin_the_same_versions() -> None:
    """What the tests ran with is what people install: one lock is a part of the other."""
    pins = {
        source.path.name: set(re.findall(r"(?m)^[\w.\-]+==\S+", source.text))
        for source in REPOSITORY
        if _is_lock(source)
    }
    assert pins["requirements.lock"]
    assert pins["requirements.lock"] < pins["requirements-dev.lock"]
