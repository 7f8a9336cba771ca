"""Keys lie in memory that is not dumped, not forked, and overwritten when they go (I2, I3)."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from scrubjay.base.errors import Invalid
from scrubjay.export.arena import Arena

_KEYS = 5000
"""More than two chunks."""


def _key(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


def _found_in_mappings(needle: bytes) -> int:
    """Count `needle` in the arena's own kind of memory: private anonymous mappings, not dumped."""
    found = 0
    start = end = 0
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        for line in Path("/proc/self/smaps").read_text().splitlines():
            word = line.split()[0]
            if not word.endswith(":"):
                start, end = (int(each, 16) for each in word.split("-"))
            elif word == "VmFlags:" and "dd" in line.split() and "wf" in line.split():
                found += os.pread(memory, end - start, start).count(needle)
    finally:
        os.close(memory)
    return found


def test_arena_many_keys_come_back_as_they_were() -> None:
    """Each key is found under its segment, whatever was put, replaced and dropped before."""
    arena = Arena()
    for number in range(_KEYS):
        arena.put(number, _key(number))
    for number in range(0, _KEYS, 3):
        arena.drop(number)
    for number in range(0, _KEYS, 6):
        arena.put(number, _key(number + _KEYS))
    for number in range(_KEYS):
        expected = _key(number) if number % 3 else None if number % 6 else _key(number + _KEYS)
        assert arena.get(number) == expected


def test_arena_dropped_key_is_overwritten() -> None:
    """I3: a dropped key is in none of the arena's memory any more, its neighbours are."""
    arena = Arena()
    gone, stays = os.urandom(32), os.urandom(32)
    arena.put(1, gone)
    arena.put(2, stays)
    assert _found_in_mappings(gone) == 1
    arena.drop(1)
    assert _found_in_mappings(gone) == 0
    assert _found_in_mappings(stays) == 1


def test_arena_replaced_key_is_overwritten() -> None:
    """I3: putting another key under the same segment leaves nothing of the first."""
    arena = Arena()
    first = os.urandom(32)
    arena.put(1, first)
    arena.put(1, os.urandom(32))
    assert _found_in_mappings(first) == 0


def test_arena_drop_all_leaves_no_key() -> None:
    """I3, I6: after `drop_all` nothing of any chunk is left, and a late answer is too late."""
    arena = Arena()
    secret = os.urandom(32)
    for number in range(_KEYS):
        arena.put(number, secret)
    assert _found_in_mappings(secret) == _KEYS
    arena.drop_all()
    assert _found_in_mappings(secret) == 0
    assert arena.get(7) is None
    arena.put(7, secret)
    assert arena.get(7) is None
    assert _found_in_mappings(secret) == 0


def test_arena_in_a_fork_is_empty() -> None:
    """I2: a process that was forked finds zeros where its parent's keys lie."""
    arena = Arena()
    arena.put(1, b"k" * 32)
    child = os.fork()
    if not child:
        os._exit(0 if arena.get(1) == bytes(32) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert arena.get(1) == b"k" * 32


def test_arena_key_of_wrong_length_is_refused() -> None:
    """A key that would overlap its neighbour is Invalid, and changes nothing."""
    arena = Arena()
    arena.put(1, b"a" * 32)
    with pytest.raises(Invalid, match="31 bytes"):
        arena.put(2, b"b" * 31)
    with pytest.raises(Invalid, match="33 bytes"):
        arena.put(1, b"c" * 33)
    assert arena.get(1) == b"a" * 32
    assert arena.get(2) is None


def test_arena_unlockable_memory_is_said() -> None:
    """Where the system allows no locked memory, keys are kept all the same, and it is said."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        _drop_privilege()
        arena = Arena()
        arena.put(1, b"k" * 32)
        os.write(writer, b"%d" % (not arena.locked and arena.get(1) == b"k" * 32))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 1) == b"1"
    os.close(reader)


def _drop_privilege() -> None:
    """Root may lock what it likes: be nobody."""
    if not os.geteuid():
        os.setresuid(65534, 65534, 65534)
