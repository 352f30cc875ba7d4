"""A network of two channels takes two series: as files, as DICOM, and never one for both."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from two_channels import import_package, phantoms
from viscera import volume
from viscera.cli import main
from viscera.phantom import write_series


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISCERA_MODELS__REPO", str(tmp_path / "repo"))
    import_package(tmp_path)
    return tmp_path / "repo"


@pytest.mark.usefixtures("repo")
def test_two_series_are_two_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = phantoms()
    expected = after.volume.voxels > before.volume.voxels
    folders = [tmp_path / "before", tmp_path / "after"]
    files = [tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"]
    for phantom, folder, file in zip((before, after), folders, files, strict=True):
        write_series(phantom, folder)
        image = sitk.GetImageFromArray(phantom.volume.voxels)
        image.SetSpacing(phantom.volume.geometry.spacing_mm[::-1])
        sitk.WriteImage(image, str(file))

    def segment(out: str, *inputs: Path) -> int:
        arguments = [*map(str, inputs), "--out", str(tmp_path / out), "--model", "two"]
        return main(["segment", *arguments])

    assert segment("files", *files) == 0
    labels = volume.read_volume(tmp_path / "files" / "labels.nii.gz", "CT").voxels
    assert np.array_equal(labels, expected)
    assert segment("dicom", *folders) == 0
    found = json.loads((tmp_path / "dicom" / "volumes.json").read_text())
    (organ,) = [one for one in found["organs"] if one["name"] == "brighter"]
    assert organ["voxels"] == np.count_nonzero(expected)
    capsys.readouterr()
    assert segment("one", folders[0]) == 1
    assert "takes 2 series at once (before, after)" in capsys.readouterr().out
    assert segment("swapped", *folders[::-1]) == 0
    found = json.loads((tmp_path / "swapped" / "volumes.json").read_text())
    (organ,) = [one for one in found["organs"] if one["name"] == "brighter"]
    assert organ["voxels"] == np.count_nonzero(before.volume.voxels > after.volume.voxels)
