"""What Viscera makes of a folder: its own stacking and decoding, judged like everybody's."""

import re
from collections import Counter
from pathlib import Path

from oddities.judge import Built, Outcome, Scanned, judge, refused
from viscera.config import SeriesSettings
from viscera.errors import ServiceError
from viscera.series import examine
from viscera.volume import DecodePool, load_volume

SETTINGS = SeriesSettings()


def viscera(folder: Path, scanned: tuple[Scanned, ...], never: str, pool: DecodePool) -> Outcome:
    """Return what Viscera does with the files of `folder`, with its defaults."""
    try:
        assembly = examine(sorted(folder.iterdir()), SETTINGS)
        volumes = [load_volume(stack, pool) for stack in assembly.stacks]
    except ServiceError as error:
        return refused(_said(error))
    notes = [f"left out: {each.frames} x {each.because}" for each in assembly.ignored]
    notes += [f"refused {each.frames}: {_said(each.error)}" for each in assembly.refused]
    defects = Counter("flagged: a slice is cut off" for v in volumes for _ in v.defects)
    notes += sorted(defects)
    if not volumes:
        return refused("; ".join(_said(each.error) for each in assembly.refused))
    built = [Built(voxels=v.voxels, affine_lps=v.geometry.affine_lps) for v in volumes]
    outcome = judge(built, scanned, never)
    return Outcome(verdict=outcome.verdict, text="; ".join([outcome.text, *notes]))


def _said(error: ServiceError) -> str:
    """Return the class and what was seen, without what to do about it."""
    seen = re.sub(r"(: |; )(send|raise|without it) .*", "", str(error))
    return f"`{error.reason}`, {seen}"
