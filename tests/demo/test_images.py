"""Images hold the files that were put in, and their judges notice damage."""

from pathlib import Path

import pytest

from demo.files import gather, survey
from demo.images import Archive, Ext4, Image, choose_image
from demo.report import Unproven

KINDS = [
    pytest.param(Ext4(), marks=pytest.mark.real("mke2fs", "e2fsck", "debugfs"), id="ext4"),
    pytest.param(Archive(), id="archive"),
]


def made(image: Image, folder: Path) -> tuple[Path, dict[str, str]]:
    """An image of two files, and their digests."""
    source = folder / "source"
    (source / "deep").mkdir(parents=True)
    (source / "one").write_bytes(b"plain text " * 1000)
    (source / "deep" / "empty").touch()
    tree = gather(source, folder / "tree", bytes_max=1 << 20)
    path = folder / "image"
    image.make(tree, path)
    return path, dict(tree.digests)


@pytest.mark.parametrize("image", KINDS)
def test_image_taken_apart_holds_the_same_files(tmp_path: Path, image: Image) -> None:
    """What is compared after the crash is what was written before it."""
    path, digests = made(image, tmp_path)
    assert path.stat().st_size % 4096 == 0
    assert image.judge(path)
    image.extract(path, tmp_path / "out")
    assert survey(tmp_path / "out") == digests


@pytest.mark.parametrize("image", KINDS)
def test_image_with_damage_is_not_judged_good(tmp_path: Path, image: Image) -> None:
    """A judge that praises everything would prove nothing (I8)."""
    path, _ = made(image, tmp_path)
    content = bytearray(path.read_bytes())
    at = content.index(b"plain text") if isinstance(image, Archive) else 1024 + 24
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(Unproven):
        image.judge(path)


def test_image_without_programs_is_an_archive() -> None:
    """The demo runs on a machine that has no e2fsprogs, and says so in its name."""
    image = choose_image(lambda _: None)
    assert "not installed" in image.name
    assert isinstance(choose_image(lambda _: "/there"), Ext4)
