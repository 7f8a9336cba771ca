"""A destroyed volume on a real pool file: soon its bytes are overwritten, on the device."""

from __future__ import annotations

import mmap
import os
import signal

import pytest

from scrubjay.base.units import MIB
from scrubjay.client.replies import Policy
from tests.app.rig import Home, until, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DATA = os.urandom(24 * MIB)


def _slots_in_use(home: Home) -> dict[int, bytes]:
    """Return the first 64 KiB of each slot that is not empty, as the device has it."""
    found = {}
    size_bytes = (home.path / "pool").stat().st_size
    for offset_bytes in range(MIB, size_bytes, 16 * MIB):
        head = _device_reads(home, offset_bytes)
        if any(head):
            found[offset_bytes] = head
    return found


def _device_reads(home: Home, offset_bytes: int) -> bytes:
    """Read past the page cache: what only lies there proves nothing."""
    with mmap.mmap(-1, 64 << 10) as aligned:
        descriptor = os.open(home.path / "pool", os.O_RDONLY | os.O_DIRECT)
        try:
            os.preadv(descriptor, [aligned], offset_bytes)
            return aligned[:]
        finally:
            os.close(descriptor)


def test_destroyed_volume_is_overwritten_on_the_device_soon_afterwards(served: Home) -> None:
    """Written, destroyed, and the raw bytes are zeros; the status says that nothing waits."""
    before = _slots_in_use(served)
    served.volume("db0")
    write(served.attach("db0"), DATA)
    held = {at: head for at, head in _slots_in_use(served).items() if at not in before}
    assert len(held) >= 2, "the volume's bytes are on the device"
    served.run("volume", "destroy", "db0", "--yes", "--wait")
    until(lambda: served.pool().slots_leased == 0 and not served.pool().scrubbing.waiting_slots)
    for at in held:
        assert not any(_device_reads(served, at)), f"old bytes at {at}"
    scrubbing = served.pool().scrubbing
    assert scrubbing.scrubbed_slots >= len(held)
    assert (scrubbing.failures, scrubbing.late_slots) == (0, 0)
    assert "to scrub       nothing" in served.run("pool", "status").stdout


def test_policy_survives_the_daemon_and_is_no_option_of_it(served: Home) -> None:
    """Whoever starts it keeps the same promise."""
    served.run("pool", "policy", "--scrub-within", "6h")
    served.end(signal.SIGTERM)
    served.serve()
    with served.client() as client:
        policy = client.get(f"pools/{served.pool().id}/policy", Policy)
    assert policy.scrub_within_s == 6 * 3600
