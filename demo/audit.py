"""The auditor: he has a certificate, the log's key, his volume's id, and nothing else here.

No daemon, no network, no home.
"""

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

    def of(self, outcome: str) -> list[str]:
        """Return the names of the checks that ended so."""
        return [each.name for each in self.checks if each.outcome == outcome]


class Auditor:
    """Works in a folder with `c.json`, `log.pub` and `volume` (id:blinding value)."""

    def __init__(self, folder: Path, *, command: Path = SCRUBJAY) -> None:
        self._folder = folder
        self._command = command
        self._env = os.environ | {"SCRUBJAY_HOME": str(folder / "none")}

    def verify(self) -> tuple[str, int]:
        """Return the verdict and how many checks passed; Unproven where one failed.

        That it is about the volume that was named is one of them.
        """
        report = _report(self._verify("c.json", "--json"))
        wrong = report.of("failed")
        prove(not wrong, f"the certificate fails {', '.join(wrong)}")
        prove("volume" in report.of("passed"), "the certificate is not about Alice's volume")
        prove(report.verdict.startswith("ERASED"), f"{report.verdict}: {report.reason}")
        return report.verdict, sum(each.outcome == "passed" for each in report.checks)

    def refuse_forged(self) -> None:
        """See that a certificate with one digit changed is refused, and for its signature."""
        bundle = (self._folder / "c.json").read_bytes()
        at = bundle.index(b'"payload"') + len(b'"payload": "') + 400
        changed = b"A" if bundle[at : at + 1] != b"A" else b"B"
        (self._folder / "forged.json").write_bytes(bundle[:at] + changed + bundle[at + 1 :])
        try:
            self._verify("forged.json", "--json")
        except Failed as error:
            if error.status != NOT_PROVEN:
                raise
            report = _report(error.printed)
        else:
            raise Unproven("a certificate that was changed is believed")
        wrong = report.of("failed")
        prove(wrong == ["envelope"], f"a changed certificate fails {', '.join(wrong) or 'nothing'}")
        prove(report.verdict == "NOT PROVEN", f"a changed certificate is {report.verdict}")

    def shown(self) -> str:
        """Return what `scrubjay certificate verify` prints."""
        return self._verify("c.json")

    def _verify(self, name: str, *options: str) -> str:
        key = self._folder / "log.pub"
        file = self._folder / name
        volume = (self._folder / "volume").read_text(encoding="utf-8")
        given = (file, "--key", key, "--volume", volume)
        return run(self._command, "certificate", "verify", *given, *options, env=self._env)


def _report(printed: str) -> _Report:
    try:
        return msgspec.json.decode(printed, type=_Report)
    except msgspec.DecodeError as error:
        raise Unproven(f"scrubjay certificate verify printed no report: {printed[:200]}") from error
