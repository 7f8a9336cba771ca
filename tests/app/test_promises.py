"""Every default in the ledger is what the code does: read from it, or measured."""

from __future__ import annotations

import datetime as dt
import inspect
import os
import re
import stat
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from importlib import import_module
from pathlib import Path

import pytest

from scrubjay.api import server
from scrubjay.api.server import listen
from scrubjay.app.defaults_page import render
from scrubjay.app.home import Home
from scrubjay.catalog.database import Database
from scrubjay.control.records import BirthRecord
from scrubjay.engine import purging
from scrubjay.engine.lessor import PURGE_WITHIN_S
from scrubjay.evidence.promises import LEDGER
from scrubjay.export import clients
from scrubjay.export.arena import Arena
from scrubjay.media.erase import erase
from scrubjay.media.file import PoolFile
from scrubjay.sinks.tpm.ground import rotation_budget
from tests.control.rig import World
from tests.media.rig import size_of

PAGE = Path(__file__).parents[2] / "docs" / "defaults.md"
Reader = Callable[[World, Path], str]


def mode_of(path: Path) -> str:
    """A file's mode, as people write it."""
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def cipher(_world: World, _folder: Path) -> str:
    """The only cipher that a birth record can name."""
    hints = typing.get_type_hints(BirthRecord, include_extras=True)
    (name,) = typing.get_args(hints["cipher"])
    return str(name)


def first_sector(world: World, _folder: Path) -> str:
    """From which sector on a new volume says that it is encrypted."""
    volume = world.volumes.create("new", tenant="acme", size_bytes=1 << 20)
    with world.keeper.reading() as view:
        return str(view.birth_record(volume.id).encrypted_from_sector)


def forgets(world: World, _folder: Path) -> str:
    """Whether destroying takes a volume's key, and no parameter could say otherwise.

    `scrub_first` says in which order bytes are overwritten.
    """
    written = world.written("doomed", tenant="acme")
    before = world.keeper.epoch
    world.destroy("doomed")
    world.forgetting.carry_out()
    with world.keeper.reading() as view:
        end = view.birth_record(written.id).destruction
    asked = set(inspect.signature(world.forgetting.destroy).parameters)
    gone = end is not None and world.sink.epochs() == (before + 1,)
    return "always" if gone and asked == {"reference", "check", "scrub_first"} else "at times"


def technique(_world: World, _folder: Path) -> str:
    """How a range is erased unless somebody names another way."""
    return spelled(inspect.signature(erase).parameters["technique"].default)


def worth_shown(world: World, _folder: Path) -> str:
    """Whether the pool's state carries the sink's worth in words."""
    sink = world.pools.status().sink
    return "yes" if sink.worth == "CONDITIONAL" and sink.findings else "no"


def tpm_budget(_world: World, _folder: Path) -> str:
    """What a TPM of which nothing is known is asked for."""
    budget = rotation_budget()
    return f"{budget.burst}, {86_400 / budget.interval_min_s:.1f} a day"


def api_socket(_world: World, folder: Path) -> str:
    """What the API listens on."""
    path = folder / "api"
    with listen(path) as listener:
        return f"{listener.family.name.removeprefix('AF_').lower()}, {mode_of(path)}"


def api_peers(_world: World, _folder: Path) -> str:
    """Whom the API lets in, by its own comparison."""
    source = inspect.getsource(server._OwnersProtocol)  # noqa: SLF001 - it is what is asked about
    found = re.search(r"if uid not in \((.*)\):", source)
    assert found is not None
    names = {"_ROOT": "root", "os.geteuid()": "its own user"}
    return ", ".join(sorted(names.get(each, each) for each in found[1].split(", ")))


def volume_socket(_world: World, folder: Path) -> str:
    """The mode of a volume's socket."""
    path = folder / "volume"
    with clients.listen(path, gid=None):
        return mode_of(path)


def home_folder(_world: World, folder: Path) -> str:
    """The mode of a home, also where the folder was open before."""
    (folder / "home").mkdir(mode=0o755)
    home = Home(folder / "home")
    home.make_folders()
    home.close_to_others()
    return mode_of(home.path)


def home_pool(_world: World, folder: Path) -> str:
    """The mode of a pool's file."""
    PoolFile.create(folder / "pool", size_bytes=size_of(1)).close()
    return mode_of(folder / "pool")


def home_catalog(_world: World, folder: Path) -> str:
    """The mode of a catalog."""
    Database.create(folder / "new.db").close()
    return mode_of(folder / "new.db")


def hardened(expression: str) -> str:
    """What a process that has hardened itself says of itself."""
    program = (
        "import ctypes, os, resource; from scrubjay.export.hardening import harden; harden();"
        f"print({expression})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.decode().strip()


def core_dumps(_world: World, _folder: Path) -> str:
    """Whether it can dump core."""
    limits = hardened("resource.getrlimit(resource.RLIMIT_CORE)")
    return "off" if limits == "(0, 0)" else f"on, {limits}"


def traced(_world: World, _folder: Path) -> str:
    """Whether it is dumpable, which others need to trace it (ptrace(2))."""
    return {"0": "no"}.get(hardened("ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)"), "yes")


def privileges(_world: World, _folder: Path) -> str:
    """Whether it has no_new_privs."""
    return {"1": "none"}.get(hardened("ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)"), "some")


def umask(_world: World, _folder: Path) -> str:
    """Its umask."""
    return hardened("f'{os.umask(0):03o}'")


def key_memory(_world: World, _folder: Path) -> str:
    """How the kernel describes the memory in which keys lie (proc_pid_smaps(5))."""
    before = _mappings()
    arena = Arena()
    arena.put(1, bytes(32))
    (flags,) = [flags for where, flags in _mappings().items() if where not in before]
    said = {"lo": "locked", "dd": "not dumped", "wf": "not inherited"}
    return ", ".join(words for flag, words in said.items() if flag in flags)


def _mappings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    where = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            where = first
        elif first == "VmFlags:" and "wf" in rest:
            found[where] = rest
    return found


def scrub_within(world: World, _folder: Path) -> str:
    """What a pool without a policy of its own promises."""
    return f"{world.scrubbing.policy().scrub_within_s // 3600} h"


def scrub_rates(world: World, _folder: Path) -> str:
    """What it goes by."""
    policy = world.scrubbing.policy()
    rates = (policy.scrub_idle_bytes_per_s, policy.scrub_busy_bytes_per_s)
    return ", ".join(f"{each >> 20} MiB" for each in rates)


def purge_within(world: World, _folder: Path) -> str:
    """What a pool without a policy of its own promises, and an exporter that is told nothing."""
    spans = {world.scrubbing.policy().purge_within_s, PURGE_WITHIN_S}
    return " or ".join(f"{each // 3600} h" for each in sorted(spans))


def purge_share(_world: World, _folder: Path) -> str:
    """What purging is allowed, as its constants say."""
    least = f"{purging.ALLOWANCE_BYTES_MIN >> 30} GiB at least"
    return f"1/{purging.SHARE} of live bytes a day ({least}), {purging.OWN_PERCENT} % of writes"


def volume_keys(world: World, _folder: Path) -> str:
    """What a volume has that was made with nothing but what it needs."""
    return world.volumes.create("kept", tenant="acme", size_bytes=1 << 20).record.keys


def certified(world: World, _folder: Path) -> str:
    """Whether a destroy that asks for nothing has a certificate in the end."""
    world.written("gone", tenant="acme")
    world.destroy("gone")
    world.forgetting.carry_out()
    return "always" if world.certificates.page(after=b"", limit=9) else "at times"


MEASURED: Mapping[str, Reader] = {
    "scrub.within": scrub_within,
    "scrub.rates": scrub_rates,
    "purge.within": purge_within,
    "purge.share": purge_share,
    "volume.keys": volume_keys,
    "certificates.issued": certified,
    "encryption.cipher": cipher,
    "encryption.from_sector": first_sector,
    "destroy.forgets": forgets,
    "erase.technique": technique,
    "sink.shown": worth_shown,
    "sink.tpm2.budget": tpm_budget,
    "api.socket": api_socket,
    "api.peers": api_peers,
    "volume.socket": volume_socket,
    "home.folder": home_folder,
    "home.pool": home_pool,
    "home.catalog": home_catalog,
    "process.core_dumps": core_dumps,
    "process.traced": traced,
    "process.privileges": privileges,
    "process.umask": umask,
    "memory.keys": key_memory,
}
"""Settings that are no constant: what the code does is looked at."""


def spelled(value: object, unit: str = "") -> str:
    """A constant as the ledger spells it."""
    match value:
        case dt.timedelta(days=days, seconds=0):
            return "1 day" if days == 1 else f"{days} days"
        case Enum():
            return str(value.value)
        case int() if unit == "NS":
            return f"{value // 1_000_000} ms"
        case int() if unit == "MODE":
            return f"{value:04o}"
        case _:
            return str(value)


def live(name: str, world: World, folder: Path) -> str:
    """What a default is in the code, now."""
    if name in MEASURED:
        return MEASURED[name](world, folder)
    attribute = LEDGER.settings[name].where.partition(":")[2]
    return spelled(located(name), attribute.rpartition("_")[2])


def located(name: str) -> object:
    """What a setting's place in the code holds."""
    module, _, attribute = LEDGER.settings[name].where.partition(":")
    return getattr(import_module(module), attribute)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A control plane."""
    made = World.make(tmp_path)
    made.tenants.create("acme")
    yield made
    made.close()


@pytest.mark.parametrize("name", LEDGER.settings)
def test_default_in_the_ledger_is_what_the_code_does(
    name: str, world: World, tmp_path: Path
) -> None:
    """A default cannot change without an entry that says so."""
    before = os.umask(0o077)
    try:
        assert live(name, world, tmp_path) == LEDGER.newest(name).value
    finally:
        os.umask(before)
    assert located(name) is not None


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("api.answers_kept", dt.timedelta(days=2)),
        ("erase.sampled_pages", 8),
        ("destroy.pause", 1_000_000_000),
        ("home.sink", 0o644),
        ("purge.share", 1024),
    ],
)
def test_default_that_was_changed_without_an_entry_is_found_out(
    name: str, planted: object, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check can fail: a constant that somebody edits differs from the ledger."""
    monkeypatch.setattr(LEDGER.settings[name].where.replace(":", "."), planted)
    assert live(name, world, tmp_path) != LEDGER.newest(name).value


def test_default_whose_behaviour_was_changed_is_found_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does what is measured: here sockets and files that others may open."""
    chmod = Path.chmod
    monkeypatch.setattr(Path, "chmod", lambda path, mode: chmod(path, mode | 0o066))
    for name in ("api.socket", "volume.socket", "home.folder"):
        assert live(name, world, tmp_path) != LEDGER.newest(name).value


def test_defaults_page_is_what_the_ledger_makes_of_it() -> None:
    """Who makes an entry makes the page anew: python -m scrubjay.app.defaults_page."""
    assert PAGE.read_text(encoding="utf-8") == render()
