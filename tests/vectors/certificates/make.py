"""Make the golden certificates of this version: python -m tests.vectors.certificates.make FOLDER.

Those of volumes; with `--media` behind the folder those of media that were retired.
A new format gets a new folder; the old ones stay as they are, for ever.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from scrubjay.evidence.checkpoint import parse_checkpoint
from scrubjay.evidence.facts import Held, Kept
from scrubjay.evidence.note import encode_base64
from scrubjay.evidence.verify import verify
from tests.evidence.world import (
    FLASH,
    World,
    cosigned,
    facts,
    moment,
    retire_facts,
    scrub_facts,
    sink,
)

__all__ = ["main", "media"]


def main(folder: Path) -> None:
    """Write bundles, keys, a newer checkpoint with its proof, and what is to be found."""
    world = World()
    subjects = world.bear(range(1, 300))
    escrow = Held("escrow", "kit-1", "a safe", "keys", Kept(moment(90_000), "the kit is in use"))
    flash, hsm = sink("CONDITIONAL"), sink("Purge", "pkcs11")
    first = world.forget(facts(subjects[:2], hsm))
    conditional = world.forget(facts(subjects[2:3], flash))
    known = facts(subjects[3:4])
    escrowed = world.forget(replace(known, held=(*known.held, escrow)))
    closing = world.forget(replace(facts(subjects[4:16]), scope="tenant"))
    scrubbed = world.scrub(scrub_facts(), first[0])
    line, witness = cosigned(world.newest().text, seed=9, name="w.example", time=1_800_000_000)
    world.log.cosign([line], [witness])
    bundles = {
        "forgotten": world.bundle(first),
        "conditional": world.bundle(conditional),
        "escrowed": world.bundle(escrowed),
        "closing": world.bundle(closing),
        "scrubbed": world.bundle(scrubbed, first),
    }
    _write(folder, world, str(witness), bundles)


def media(folder: Path) -> None:
    """Write the same for media: one that was overwritten in place, and one of flash."""
    world = World()
    world.bear([1, 2])
    clear = world.retire(retire_facts())
    flash = world.retire(retire_facts(worth="CONDITIONAL", disk=FLASH))
    line, witness = cosigned(world.newest().text, seed=9, name="w.example", time=1_800_000_000)
    world.log.cosign([line], [witness])
    bundles = {"retired": world.bundle(clear), "retired-flash": world.bundle(flash)}
    _write(folder, world, str(witness), bundles)


def _write(folder: Path, world: World, witness: str, bundles: dict[str, bytes]) -> None:
    old = world.files.files["checkpoint"]
    world.bear(range(300, 310))
    checkpoint = parse_checkpoint(old.decode().rpartition("\n\n")[0] + "\n")
    proof = world.log.prove_consistency(checkpoint, world.newest())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.pub").write_text(f"{world.key}\n")
    (folder / "witness.pub").write_text(f"{witness}\n")
    (folder / "newer").write_bytes(world.files.files["checkpoint"])
    (folder / "newer.proof").write_text("".join(f"{encode_base64(each)}\n" for each in proof))
    expected = {}
    for name, bundle in bundles.items():
        (folder / f"{name}.json").write_bytes(bundle)
        expected[name] = {
            "sha256": hashlib.sha256(bundle).hexdigest(),
            "verdict": verify(bundle, world.key).verdict.value,
        }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    (media if "--media" in sys.argv else main)(Path(sys.argv[1]))
