"""The home: made whole or not at all, held by one, refused when it is not this version's."""

from __future__ import annotations

import os
import re
import signal
import stat
from pathlib import Path

import pytest

from tests.app.rig import Home, read, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DATA = b"what was written" * 4096


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file of a home that is not of its running, with its mode."""
    return {
        path.name: (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in folder.iterdir()
        if path.is_file() and path.name != "lock"
    }


def test_init_makes_a_home_for_its_owner_alone_and_says_what_comes_next(place: Home) -> None:
    """What the sink is worth is said at once, and the next two commands."""
    said = place.run("init", "--pool-size", "160MiB").stdout
    assert "The sink is on " in said
    assert "Forgetting is " in said
    assert "scrubjay serve" in said
    assert "scrubjay tenant create" in said
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o700
    assert {name: mode for name, (mode, _) in contents(place.path).items()} == dict.fromkeys(
        ("VERSION", "pool", "sink", "catalog.db"), 0o600
    )


def test_init_in_a_folder_that_is_there_closes_it_to_others(place: Home) -> None:
    """Also at the root of a file system of its own."""
    place.path.mkdir(mode=0o755)
    (place.path / "lost+found").mkdir()
    place.run("init", "--pool-size", "160MiB")
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o700


def test_init_where_something_is_changes_nothing(home: Home) -> None:
    """A second init never costs the first one's data."""
    before = contents(home.path)
    assert home.run("init", status=5).stderr == (
        f"scrubjay: home {home.path}: already a home\n    hint: serve it with: scrubjay serve\n"
    )
    (home.path / "VERSION").rename(home.path / "notes")
    assert "not empty" in home.run("init", status=5).stderr
    (home.path / "notes").rename(home.path / "VERSION")
    assert contents(home.path) == before


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--pool-size", "1MiB"), 2),
        (("--pool-size", "64MiB"), 2),
        (("--pool-size", "9999999TiB"), 2),
        (("--pool-size", "60000TiB"), 7),
        (("--pool-size", "much"), 2),
        (("--pool-size", ""), 2),
        (("--label", "My Pool"), 2),
    ],
)
def test_init_that_cannot_be_leaves_nothing_behind(
    place: Home, arguments: tuple[str, str], status: int
) -> None:
    """All of a home, or nothing."""
    place.run("init", *arguments, status=status)
    assert not place.path.exists()


def test_init_where_a_file_is_says_so_and_leaves_it(place: Home) -> None:
    """Also below one: neither can be a folder, and no traceback says it better."""
    place.path.write_bytes(b"mine")
    for path in (place.path, place.path / "below"):
        done = Home(path).run("init", "--pool-size", "160MiB", status=2)
        assert done.stderr.startswith(f"scrubjay: home {path}: not a folder\n    hint: ")
    assert place.path.read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_init_in_a_folder_it_may_not_read_is_denied(place: Home) -> None:
    """Somebody else's folder is named, with what to do."""
    place.path.mkdir(mode=0)
    done = place.run("init", "--pool-size", "160MiB", status=3)
    assert done.stderr.startswith(f"scrubjay: home {place.path}: Permission denied\n    hint: ")


def test_init_of_a_pool_of_no_possible_size_says_which_is_in_units(place: Home) -> None:
    """Both what is wanted and what there is can be read at a glance."""
    assert "(129MiB) or more" in place.run("init", "--pool-size", "64MiB", status=2).stderr
    said = place.run("init", "--pool-size", "60000TiB", status=7).stderr
    assert re.search(r"iB free, expected 60000TiB for the pool\n", said)


def test_init_at_a_path_too_long_for_sockets_is_refused(place: Home) -> None:
    """It would be made, and then nothing could be attached."""
    place.path = place.path / ("d" * 80)
    done = place.run("init", status=2)
    assert "shorter" in done.stderr
    assert not place.path.exists()


def test_second_daemon_on_a_home_is_refused_and_the_first_goes_on(served: Home) -> None:
    """One home, one daemon."""
    served.volume("db0")
    done = served.run("serve", status=5)
    assert "one daemon serves a home" in done.stderr
    assert served.pool().volumes == 1
    served.run("home", "rebuild", "--yes", status=5)


def test_home_of_a_newer_version_is_refused_unchanged(home: Home) -> None:
    """An older program does not guess."""
    (home.path / "VERSION").write_text("scrubjay home 2\n")
    before = contents(home.path)
    for command in (("serve",), ("home", "rebuild")):
        done = home.run(*command, status=2)
        assert "newer" in done.stderr
    assert contents(home.path) == before


def test_home_that_is_not_there_says_how_to_make_it(place: Home) -> None:
    """The hint is what to type; whatever the command, it is the same."""
    for command in (("serve",), ("home", "rebuild"), ("volume", "list")):
        assert place.run(*command, status=4).stderr == (
            f"scrubjay: home {place.path}: not there\n"
            "    hint: make it with: scrubjay init, or set SCRUBJAY_HOME\n"
        )


@pytest.mark.parametrize("damage", ["missing", "foreign", "readable", "torn"])
def test_sink_that_is_not_the_pools_is_refused_and_nothing_changed(home: Home, damage: str) -> None:
    """Missing, another pool's, readable by others, damaged: each says what to do."""
    sink = home.path / "sink"
    if damage == "missing":
        sink.unlink()
        status = 4
    elif damage == "foreign":
        other = Home(home.path.with_name("other"))
        other.init()
        sink.write_bytes((other.path / "sink").read_bytes())
        status = 2
    elif damage == "readable":
        sink.chmod(0o644)
        status = 3
    else:
        sink.write_bytes(bytes(len(sink.read_bytes())))
        status = 8
    before = contents(home.path)
    done = home.run("serve", status=status)
    assert "sink" in done.stderr
    assert contents(home.path) == before
    assert home.processes() == []


def test_catalog_lost_is_made_anew_from_pool_and_sink(served: Home) -> None:
    """Everything comes back but the history of operations."""
    served.volume("db0")
    write(served.attach("db0"), DATA)
    served.end(signal.SIGTERM)
    (served.path / "catalog.db").unlink()
    assert "home rebuild" in served.run("serve", status=4).stderr
    assert "1 tenant, 1 volume\n" in served.run("home", "rebuild").stdout
    served.serve()
    assert read(served.attach("db0"), len(DATA)) == DATA


def test_catalog_that_is_there_is_kept_when_it_is_made_anew(home: Home) -> None:
    """Nothing is thrown away, and nothing is replaced without a yes."""
    before = (home.path / "catalog.db").read_bytes()
    home.run("home", "rebuild", status=2)
    home.run("home", "rebuild", "--yes")
    (kept,) = home.path.glob("catalog.db.replaced-*")
    assert kept.read_bytes() == before


def test_pool_put_back_from_a_backup_is_refused(served: Home) -> None:
    """An older pool lost what came after; it is refused, not believed (I6)."""
    served.volume("db0")
    served.end(signal.SIGTERM)
    older = (served.path / "pool").read_bytes()
    served.serve()
    served.volume("db1")
    served.end(signal.SIGTERM)
    (served.path / "pool").write_bytes(older)
    done = served.run("serve", status=8)
    assert "older copy" in done.stderr
    assert (served.path / "pool").read_bytes() == older


def test_command_without_a_daemon_says_how_to_start_one(home: Home) -> None:
    """The hint is what to type, and the status says to try again later."""
    assert "scrubjay serve" in home.run("volume", "list", status=6).stderr


def test_help_and_version_need_no_home(place: Home) -> None:
    """What a newcomer types first works."""
    assert "init" in place.run("--help").stdout
    assert place.run("--version").stdout.startswith("scrubjay ")
    assert "Example" in place.run("volume", "create", "--help").stdout
    place.run("volume", "explode", status=2)
