"""What each way to erase does to the bytes beneath: a marker is looked for on the raw disk.

The table of docs/format/pool.md ("Erasing") is what these tests find.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from random import Random

import pytest

from scrubjay.base.units import MIB
from scrubjay.media.direct import DirectFile
from scrubjay.media.erase import Technique, erase
from tests.media import loops
from tests.media.rig import Seeded

MARKER = Random(77).randbytes(512)
EXTENT = (1 * MIB, 2 * MIB)
MARKERS = EXTENT[1] // len(MARKER)

NONE, ALL, TWICE = 0, MARKERS, 2 * MARKERS
LEFT = {  # copies left after overwriting, a zeroed range, a punched hole
    ("ext4", "rw"): (NONE, ALL, ALL),
    ("ext4", "discard"): (NONE, ALL, NONE),
    ("ext4", "data=journal"): (ALL, TWICE, TWICE),
    ("xfs", "rw"): (NONE, ALL, ALL),
    ("xfs", "discard"): (NONE, NONE, NONE),
    ("btrfs", "rw"): (ALL, ALL, ALL),
    ("btrfs", "discard=sync"): (ALL, ALL, ALL),
    ("btrfs", "nodatacow"): (NONE, ALL, ALL),
}
COLUMNS = {
    Technique.OVERWRITE: 0,
    Technique.OVERWRITE_RANDOM: 0,
    Technique.ZERO_RANGE: 1,
    Technique.PUNCH_HOLE: 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("technique", COLUMNS)
@pytest.mark.parametrize(("kind", "options"), LEFT)
def test_erasing_a_file_leaves_on_the_disk_what_the_docs_say(
    kind: str, options: str, technique: Technique, tmp_path: Path
) -> None:
    """Overwriting reaches the bytes where a file system writes in place; nothing else does."""
    left = LEFT[kind, options][COLUMNS[technique]]
    image = loops.image_of(tmp_path / "disk", 512 * MIB)
    with loops.mounted(kind, image, tmp_path / "mnt", options=options) as folder:
        medium = DirectFile.create(folder / "pool", size_bytes=8 * MIB)
        medium.write(EXTENT[0], MARKER * MARKERS)
        medium.sync()
        assert _count(image) >= MARKERS, "the marker is there to be erased"
        done = erase(medium, [EXTENT], entropy=Seeded(), technique=technique, sampled_pages=None)
        medium.close()
        assert done.clean
        assert done.used is technique
        loops.run("sync", "--file-system", str(folder))
        assert _count(image) == left
    assert _count(image) == left


@pytest.mark.parametrize("technique", Technique)
def test_erasing_a_loop_device_leaves_nothing_on_the_disk(
    technique: Technique, tmp_path: Path
) -> None:
    """On a device itself nothing stands between; that a loop device obeys, a disk need not."""
    image = loops.image_of(tmp_path / "disk", 8 * MIB)
    with loops.loop(image) as device:
        medium = DirectFile.open(device, hold=True)
        medium.write(EXTENT[0], MARKER * MARKERS)
        medium.sync()
        assert _count(image) == MARKERS, "the marker is there to be erased"
        done = erase(medium, [EXTENT], entropy=Seeded(), technique=technique, sampled_pages=None)
        assert done.clean
        assert done.used is technique
        medium.close()
    assert _count(image) == NONE


def _count(image: Path) -> int:
    """Count the marker in the raw bytes of a disk."""
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        count = at = 0
        while (at := raw.find(MARKER, at)) >= 0:
            count += 1
            at += len(MARKER)
        return count
