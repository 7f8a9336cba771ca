"""What forgetting in a TPM is worth, and how often its memory bears it.

The reasons stand in docs/rfcs/0002-tpm-sink.md.

NIST SP 800-88r2 counts cryptographic erase as Purge where the key itself was sanitised, and
takes the zeroisation of ISO/IEC 19790 (FIPS 140) for that. Whether overwriting an NV index
is one, only the security policy of a validated part says; no TPM tells us. So Purge needs an
operator who names that policy, on a discrete part that claims such a design. A discrete part
without that is Clear: overwritten and read back through its interface. Firmware TPMs keep
their memory in the flash of the board, and emulated ones in a file: CONDITIONAL.
"""

from __future__ import annotations

from pathlib import Path

from scrubjay.sinks.budget import Budget, Certainty
from scrubjay.sinks.sink import Grade, Worth
from scrubjay.sinks.tpm.chip import Facts

__all__ = ["assess_tpm", "rotation_budget"]

_DISCRETE = {"IFX": "Infineon", "STM": "STMicroelectronics", "NTC": "Nuvoton", "ATML": "Microchip"}
_FIRMWARE = {
    "INTC": "Intel",
    "AMD": "AMD",
    "QCOM": "Qualcomm",
    "HISI": "HiSilicon",
    "ROCC": "Rockchip",
}
_EMULATED = {
    "IBM": "swtpm",
    "MSFT": "Microsoft",
    "GOOG": "Google",
    "VMW": "VMware",
    "AMZN": "Amazon",
}

_CYCLES_ASSUMED = 100_000
"""What flash and EEPROM of microcontrollers endure at least; STMicroelectronics states
500,000 for the ST33GTPMI (DB4278), and most makers state nothing."""
_SHARE = 0.25
"""Of the endurance that we use in a life: others write to a TPM too, at each boot."""
_WRITES_PER_ROTATION = 3
"""One to prepare and two to drop; all three wear one page, where a part levels nothing."""
_LIFE_S = 10 * 365.25 * 86_400
_BURST_SHARE = 0.06


def assess_tpm(facts: Facts, *, policy: str, root: Path = Path("/")) -> Worth:
    """Assess a TPM by what it says of itself, /proc beneath `root`, and an operator's word."""
    name = facts.manufacturer
    version = f"firmware {facts.firmware >> 48}.{(facts.firmware >> 32) & 0xFFFF}"
    if name in _EMULATED or _virtual(root):
        who = _EMULATED.get(name, name)
        place = f"a TPM that is emulated or passed on ({who}, {version})"
        return Worth(Grade.CONDITIONAL, place, "whoever runs it may keep copies of its memory")
    if name in _FIRMWARE:
        place = f"a firmware TPM ({_FIRMWARE[name]}, {version})"
        reason = (
            "its memory lies, encrypted, in the flash of the board, where old bytes may survive"
        )
        return Worth(Grade.CONDITIONAL, place, reason)
    if name not in _DISCRETE:
        place = f"a TPM of an unknown maker ({name!r}, {version})"
        return Worth(Grade.CONDITIONAL, place, "nothing tells what its memory is")
    place = f"a discrete TPM ({_DISCRETE[name]}, {version})"
    if facts.fips and policy:
        reason = (
            "the key was overwritten twice in its shielded memory and read back; that this "
            f"zeroises it is asserted by the operator, after {policy}"
        )
        return Worth(Grade.PURGE, place, reason)
    reason = (
        "the key was overwritten twice and read back through its interface; what its flash "
        "keeps of the old bytes is inside the part, and nothing tells of it"
    )
    return Worth(Grade.CLEAR, place, reason)


def rotation_budget(endurance_cycles: int = 0) -> Budget:
    """Return what NV memory of this endurance affords in ten years; 0: unknown, and assumed."""
    cycles = endurance_cycles or _CYCLES_ASSUMED
    rotations = cycles * _SHARE / _WRITES_PER_ROTATION
    burst = int(rotations * _BURST_SHARE)
    certainty = Certainty.STATED if endurance_cycles else Certainty.ASSUMED
    reason = f"{_SHARE:.0%} of {cycles} writes in ten years, {_WRITES_PER_ROTATION} a rotation"
    return Budget(_LIFE_S / (rotations - burst), burst, certainty, reason)


def _virtual(root: Path) -> bool:
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # what cannot be found out is not assumed to be good
    return "hypervisor" in text
