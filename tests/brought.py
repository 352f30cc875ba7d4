"""What a stranger brings to `viscera model import onnx`, and what is found afterwards."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import band
from viscera.domain.volumes import Volume
from viscera.models.write import dump_toml

Viscera = Callable[..., tuple[int, str]]
"""Run one command; its status and what it said."""

BANDS = tuple(
    {
        "name": f"band {k}",
        "title": f"Band {k}",
        "category": {"value": "1", "scheme": "99TEST", "meaning": "Test"},
        "type": {"value": str(k), "scheme": "99TEST", "meaning": f"Band {k}"},
        "rgb": [k, k, k],
    }
    for k in range(1, 16)
)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_scan(path: Path, scan: Volume) -> None:
    image = sitk.GetImageFromArray(scan.voxels)
    image.SetSpacing(scan.geometry.spacing_mm[::-1])
    image.SetOrigin(tuple(scan.geometry.affine_lps[:3, 3]))
    directions = scan.geometry.affine_lps[:3, :3] / np.array(scan.geometry.spacing_mm)
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(path))


def brought(tmp_path: Path, **changed: object) -> tuple[Path, Path]:
    """Write what a stranger brings: a network, and a manifest without files."""
    tables = {
        "format": 2,
        "name": "mine",
        "version": "1",
        "grade": "research",
        "licence": "mine",
        "intended_use": "tests",
        "training_data": "none",
        "accuracy": "none",
        "input": {
            "modalities": ["CT"],
            "axes": "SPL",
            "normalisation": {"CT": {"scheme": "none"}},
        },
        "tiles": {"patch_size": [8, 16, 16]},
        "output": {"labels": "amos15"},
        **changed,
    }
    (tmp_path / "net.onnx").write_bytes(band.band_onnx())
    (tmp_path / "m.toml").write_text(dump_toml(tables))
    return tmp_path / "net.onnx", tmp_path / "m.toml"
