"""`python -m demo`: the main job on real files, with a table of what was proven.

Exit status 0 says that all of it was proven, 1 that something was not, 130 that you
interrupted it. Nothing is left behind, unless --keep asks for it.
"""

import argparse
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from demo.files import interpreter_library
from demo.report import Report, Unproven
from demo.story import STEPS, Story
from scrubjay.base.errors import ScrubjayError

__all__ = ["main"]

ON_DISK = Path("/var/tmp")  # noqa: S108 - a folder made by tempfile goes there, and /tmp may be memory
WIDTH = 116
"""Columns of the table where there is no terminal to ask, and of its picture."""
INTERRUPTED = 130
ENDINGS = (signal.SIGINT, signal.SIGTERM)
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where mke2fs and e2fsck are, for people who are not root."""
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
EXPECTED = (Unproven, ScrubjayError, OSError, subprocess.TimeoutExpired)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    args = _arguments(argv)
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN))
    for each in ENDINGS:
        signal.signal(each, _interrupt)
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=WIDTH)
    report = Report(console, step_count=STEPS)
    folder = Path(tempfile.mkdtemp(prefix="scrubjay-demo-", dir=args.dir))
    story = Story(folder, source=args.source, report=report)
    try:
        status = _tell(story, console)
        if report.steps:
            console.print()
            console.print(report.table())
        if report.closing:
            console.print(
                "\n$ scrubjay certificate verify c.json --key log.pub --volume ID:BLINDING"
            )
            console.print(escape(report.closing), highlight=False, soft_wrap=True)
        if args.svg:
            _draw(report, args.svg)
    finally:
        _hear_no_more()
        story.home.clear()
        if args.keep:
            console.print(f"kept: SCRUBJAY_HOME={story.home.path}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status


def _tell(story: Story, console: Console) -> int:
    """Do all of it, and return the exit status."""
    try:
        story.tell()
    except KeyboardInterrupt:
        console.print("interrupted: nothing is proven but what the table says")
        return INTERRUPTED
    except EXPECTED as error:
        console.print("[bold red]not proven:[/]", escape(str(error)), soft_wrap=True)
        if hint := getattr(error, "hint", ""):
            console.print(f"hint: {escape(hint)}", soft_wrap=True)
        if tail := story.home.log_tail():
            console.print(f"the end of the daemon's log:\n{escape(tail)}", soft_wrap=True)
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--source", type=_folder, default=interpreter_library(), metavar="DIR",
                        help="take files from here, up to 64 MiB (%(default)s)")  # fmt: skip
    parser.add_argument("--dir", type=_folder, default=ON_DISK, metavar="DIR",
                        help="where to work; some 2 GiB (%(default)s)")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the home, and say where")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the table as a picture too")
    return parser.parse_args(argv)


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def _interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    _hear_no_more()
    raise KeyboardInterrupt


def _hear_no_more() -> None:
    """Cleaning up takes seconds, and is not cut short."""
    for each in ENDINGS:
        signal.signal(each, signal.SIG_IGN)


def _draw(report: Report, path: Path) -> None:
    """Write the table as SVG, with whatever monospaced font its reader has."""
    canvas = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    canvas.print(report.table())
    path.write_text(FONT_FACE.sub("", canvas.export_svg(title="make demo")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
