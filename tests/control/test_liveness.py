"""Whether a volume is served is asked of the kernel, and by several at once."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

import pytest

from scrubjay.base.ids import VolumeId
from scrubjay.control.liveness import Liveness

VOLUME = VolumeId(uuid.UUID(int=7))


@pytest.fixture
def liveness(tmp_path: Path) -> Liveness:
    """A folder with the lock of one volume, which nobody holds."""
    made = Liveness(tmp_path)
    made.lock_path(VOLUME).touch()
    return made


def test_two_who_ask_at_once_do_not_take_each_other_for_an_exporter(
    liveness: Liveness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that nobody serves is attached for nobody (I8)."""
    answers: list[bool] = []
    close = os.close

    def asked_meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "close", close)
        answers.append(liveness.attached(VOLUME))  # while the other one's lock is still held
        close(descriptor)

    monkeypatch.setattr(os, "close", asked_meanwhile)
    answers.append(liveness.attached(VOLUME))
    assert answers == [False, False]


def test_exporters_lock_is_seen_until_it_is_let_go(liveness: Liveness) -> None:
    """However many ask."""
    lock = os.open(liveness.lock_path(VOLUME), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert [liveness.attached(VOLUME) for _ in range(3)] == [True] * 3
    with liveness.withheld(VOLUME) as gone:
        assert not gone
    os.close(lock)
    assert not liveness.attached(VOLUME)


def test_withheld_volume_is_held_against_exporters(liveness: Liveness) -> None:
    """In the exporter's place, so whoever asks meanwhile sees it held."""
    with liveness.withheld(VOLUME) as gone:
        assert gone
        assert liveness.attached(VOLUME)
    assert not liveness.attached(VOLUME)


def test_volume_without_a_lock_is_not_attached(tmp_path: Path) -> None:
    """It was never served from here."""
    assert not Liveness(tmp_path / "nowhere").attached(VOLUME)
