"""The auditor: he has a certificate, the log's key, and no daemon, no network, no home."""

import os
import sys
from pathlib import Path

import msgspec

from demo.programs import Failed, run
from demo.report import Unproven, prove

__all__ = ["Auditor"]

SCRUBJAY = Path(sys.executable).with_name("scrubjay")
NOT_PROVEN = 1


class _Check(msgspec.Struct, frozen=True):
    name: str
    outcome: str


class _Report(msgspec.Struct, frozen=True):
    verdict: str
    reason: str
    checks: list[_Check]


class Auditor:
    """Works in a folder with `c.json` and `log.pub`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = os.environ | {"SCRUBJAY_HOME": str(folder / "none")}

    def verify(self) -> tuple[str, int]:
        """Return the verdict and how many checks passed; Unproven where one failed."""
        report = msgspec.json.decode(self._verify("c.json", "--json"), type=_Report)
        wrong = [each.name for each in report.checks if each.outcome == "failed"]
        prove(not wrong, f"the certificate fails {', '.join(wrong)}")
        prove(report.verdict.startswith("ERASED"), f"{report.verdict}: {report.reason}")
        return report.verdict, sum(each.outcome == "passed" for each in report.checks)

    def refuse_forged(self) -> None:
        """See that a certificate with one digit changed is refused."""
        bundle = (self._folder / "c.json").read_bytes()
        at = bundle.index(b'"payload"') + len(b'"payload": "') + 400
        changed = b"A" if bundle[at : at + 1] != b"A" else b"B"
        (self._folder / "forged.json").write_bytes(bundle[:at] + changed + bundle[at + 1 :])
        try:
            self._verify("forged.json")
        except Failed as error:
            if error.status != NOT_PROVEN:
                raise
        else:
            raise Unproven("a certificate that was changed is believed")

    def shown(self) -> str:
        """Return what `scrubjay certificate verify` prints."""
        return self._verify("c.json")

    def _verify(self, name: str, *options: str) -> str:
        key = self._folder / "log.pub"
        file = self._folder / name
        command = (SCRUBJAY, "certificate", "verify", file, "--key", key)
        return run(*command, *options, env=self._env)
