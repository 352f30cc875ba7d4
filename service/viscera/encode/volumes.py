"""volumes.json: the result for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from viscera.domain.geometry import Geometry
from viscera.domain.models import Code
from viscera.domain.results import OrganMeasurement, Verdict
from viscera.domain.sources import Stack
from viscera.encode.context import ResultContext

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes; a new key is not a new version."""


def write_volumes_json(
    path: Path,
    measurements: Sequence[OrganMeasurement],
    verdict: Verdict,
    geometry: Geometry,
    modality: str,
    context: ResultContext,
    stack: Stack | None = None,
) -> None:
    """Write every measurement with its unit in the key's name; null where there is none.

    Parameters
    ----------
    path
        The file to write.
    measurements
        One row per organ, in the model's order.
    verdict
        With its reasons.
    geometry, modality
        Of the volume; `modality` says what an intensity is (HU for CT).
    context
        Model, engine and job.
    stack
        Its study and series UIDs are named; None for a volume that was no DICOM.
    """
    tree = {
        "schema_version": SCHEMA_VERSION,
        "job_id": context.job_id,
        "created_at": context.created_at.isoformat(),
        "warning": context.warning,
        "model": {
            "name": context.model.name,
            "version": context.model.version,
            "sha256": context.model.digest,
            "grade": context.model.grade.value,
        },
        "engine": context.engine,
        "study_uid": stack.facts.study_uid if stack else None,
        "series_uid": stack.facts.series_uid if stack else None,
        "modality": modality,
        "intensity_unit": "HU" if modality == "CT" else None,
        "shape": list(geometry.shape),
        "spacing_mm": [round(step, 6) for step in geometry.spacing_mm],
        "verdict": {"decision": verdict.decision.value, "reasons": list(verdict.reasons)},
        "organs": [_organ(one) for one in measurements],
    }
    text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _organ(organ: OrganMeasurement) -> dict[str, Any]:
    label = organ.label
    return {
        "name": label.name,
        "title": label.title,
        "label": label.value,
        "code": _code(label.type),
        "laterality": _code(label.laterality) if label.laterality else None,
        "presence": organ.presence.value,
        "truncated_by": list(organ.truncated_by),
        "voxels": organ.voxels,
        "volume_ml": round(organ.volume_ml, 4),
        "removed_ml": round(organ.removed_ml, 4),
        "mean_intensity": _rounded(organ.mean_intensity),
        "sd_intensity": _rounded(organ.sd_intensity),
        "extent_mm": _rounded_all(organ.extent_mm),
        "centroid_lps_mm": _rounded_all(organ.centroid_lps),
        "flags": [{"kind": flag.kind.value, "text": flag.text} for flag in organ.flags],
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rounded_all(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else [round(value, 4) for value in values]
