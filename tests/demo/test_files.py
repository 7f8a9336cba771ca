"""Files are gathered once, and differences are told in words."""

from pathlib import Path

from demo.files import differences, gather, survey


def test_gather_takes_regular_files_up_to_the_limit(tmp_path: Path) -> None:
    """Links, caches and what does not fit stay out; the rest is copied as it is."""
    source = tmp_path / "source"
    for folder in ("a", "__pycache__", "site-packages"):
        (source / folder).mkdir(parents=True)
    (source / "a" / "one").write_bytes(b"1" * 10)
    (source / "a" / "two").write_bytes(b"2" * 1000)
    (source / "b").write_bytes(b"3" * 20)
    (source / "link").symlink_to("b")
    (source / "__pycache__" / "x").write_bytes(b"x")
    (source / "site-packages" / "y").write_bytes(b"y")
    tree = gather(source, tmp_path / "copy", bytes_max=100)
    assert sorted(tree.digests) == ["a/one", "b"]
    assert tree.size_bytes == 30
    assert (tree.folder / "a" / "one").read_bytes() == b"1" * 10


def test_differences_name_what_is_missing_new_and_changed(tmp_path: Path) -> None:
    """A file that is lost, invented or altered cannot hide behind the others (I1)."""
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, files in ((before, "lost same changed"), (after, "same changed new")):
        folder.mkdir()
        for name in files.split():
            (folder / name).write_text(name)
    (after / "changed").write_text("other")
    assert differences(survey(before), survey(after)) == [
        "lost is missing",
        "new was never written",
        "changed has another content",
    ]
    assert differences(survey(before), survey(before)) == []
