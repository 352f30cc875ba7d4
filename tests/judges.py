"""Other programs' readers of what we write."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

_BIN = Path(sys.executable).parent


def dciodvfy_errors(path: Path) -> list[str]:
    """Return the error lines of `dciodvfy -new`."""
    run = subprocess.run(
        [_BIN / "dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


def dcmqi_points(seg: Path, folder: Path) -> dict[int, np.ndarray]:
    """Return the foreground of each segment as (n, 3) LPS points, read by dcmqi.

    The key is the segment's number in the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [_BIN / "segimage2itkimage", "--inputDICOM", str(seg)]
    command += ["--outputDirectory", str(folder), "--outputType", "nrrd", "--prefix", "s"]
    subprocess.run(command, check=True, capture_output=True)
    points = {}
    for path in folder.glob("s-*.nrrd"):
        image = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(image)
        for value in np.unique(array[array > 0]):
            index = np.argwhere(array == value)[:, ::-1].astype(float)
            direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
            points[int(value)] = index @ direction.T + image.GetOrigin()
    return points


def highdicom_labels(seg: Path) -> dict[str, np.ndarray]:
    """Return, for each source SOP Instance UID, the label image that highdicom reads.

    Labels are the segments' numbers in the file.
    """
    import highdicom

    read = highdicom.seg.segread(str(seg))
    uids = [uid for _, _, uid in read.get_source_image_uids()]
    array = read.get_pixels_by_source_instance(
        source_sop_instance_uids=uids,
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    return dict(zip(uids, array, strict=True))


def segment_titles(seg: Path) -> dict[int, str]:
    """Return the SegmentLabel of each segment number."""
    ds = pydicom.dcmread(seg, stop_before_pixels=True)
    return {int(s.SegmentNumber): str(s.SegmentLabel) for s in ds.SegmentSequence}
