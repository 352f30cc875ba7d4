"""Our own SEG as `viscera evaluate` reads it, beside the label map that it was made from."""

import json
from pathlib import Path

import pytest
from encode_series import FLIPPED, OBLIQUE, write_single_frames
from encode_stacks import blobs, context, model, stack_of, volume_of

from viscera.cli import main
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.encode import write_results
from viscera.measure import measure
from viscera.volume.files import write_labels


@pytest.mark.parametrize("orientation", [(1.0, 0, 0, 0, 1.0, 0), FLIPPED, OBLIQUE])
@pytest.mark.parametrize("sex", ["M", "F", "O"])
def test_seg_and_nifti_are_one(tmp_path: Path, orientation, sex):
    stack = stack_of(write_single_frames(tmp_path, orientation, PatientSex=sex))
    volume = volume_of(stack)
    labels = blobs(volume.geometry.shape, range(1, 16))
    labels[:3] = 0  # slices that the SEG leaves out
    files = write_results(
        labels=labels, volume=volume, stack=stack, measurements=measure(labels, volume, model()),
        verdict=Verdict(Decision.DELIVER), context=context(), folder=tmp_path / "r" / "1",
    )  # fmt: skip
    seg = next(tmp_path / one.path for one in files if one.kind is ResultKind.SEG)
    write_labels(tmp_path / "reference.nii.gz", labels, volume.geometry)
    report = tmp_path / "report.json"
    reference = str(tmp_path / "reference.nii.gz")
    assert main(["evaluate", str(seg), reference, "--json", str(report)]) == 0
    tree = json.loads(report.read_text())
    present = {label.name for label in model().labels if (labels == label.value).any()}
    assert {one["organ"] for one in tree["organs"]} == present
    assert tree["mean_dice"]["mean"] == 1.0
    assert tree["mean_nsd"]["mean"] == 1.0
