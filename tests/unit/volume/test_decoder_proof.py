"""Only what decodes is offered; the samples are judged by programs that share no code with ours."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from viscera.config import DecodeSettings
from viscera.receive.classes import TRANSFER_SYNTAXES
from viscera.volume.proof import FOLDER, SAMPLES, Sample, proven_syntaxes

SETTINGS = DecodeSettings(memory_mb=1024, timeout_s=20)
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
J2K, JPEG_LOSSLESS, BIG = (f"1.2.840.10008.1.2.{end}" for end in ("4.90", "4.70", "2"))
DCMTK = {
    "1.2.840.10008.1.2.5": "dcmdrle",
    "1.2.840.10008.1.2.4.50": "dcmdjpeg",
    JPEG_EXTENDED: "dcmdjpeg",
    "1.2.840.10008.1.2.4.57": "dcmdjpeg",
    JPEG_LOSSLESS: "dcmdjpeg",
    "1.2.840.10008.1.2.4.80": "dcmdjpls",
    "1.2.840.10008.1.2.4.81": "dcmdjpls",
}


def test_every_syntax_that_we_take_has_samples_under_its_own_name() -> None:
    assert {sample.transfer_syntax_uid for sample in SAMPLES} == set(TRANSFER_SYNTAXES)
    for sample in SAMPLES:
        named = dcmread(FOLDER / sample.file, stop_before_pixels=True).file_meta.TransferSyntaxUID
        assert named == sample.transfer_syntax_uid


def test_what_the_lock_file_installs_decodes_every_syntax() -> None:
    assert proven_syntaxes(SETTINGS) == set(TRANSFER_SYNTAXES)


def test_a_syntax_is_proven_only_if_every_sample_gives_its_values(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(FOLDER, folder)
    (folder / f"{J2K}-signed.dcm").write_bytes(b"no DICOM")
    wrong = dcmread(folder / f"{JPEG_LOSSLESS}-unsigned.dcm")
    (frame,) = generate_frames(wrong.PixelData, number_of_frames=1)
    middle = len(frame) // 2
    wrong.PixelData = encapsulate(
        [frame[:middle] + bytes([frame[middle] ^ 4]) + frame[middle + 1 :]]
    )
    wrong.save_as(folder / f"{JPEG_LOSSLESS}-unsigned.dcm")
    swapped = dcmread(folder / f"{BIG}-signed.dcm")
    swapped.PixelData = np.frombuffer(swapped.PixelData, ">i2").astype("<i2").tobytes()
    swapped.save_as(folder / f"{BIG}-signed.dcm")
    assert proven_syntaxes(SETTINGS) - proven_syntaxes(SETTINGS, folder) == {
        J2K,
        JPEG_LOSSLESS,
        BIG,
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file)
def test_others_read_the_samples_as_the_formula_says(sample: Sample, tmp_path: Path) -> None:
    path = FOLDER / sample.file
    if program := DCMTK.get(sample.transfer_syntax_uid):
        if not Path(f"/usr/bin/{program}").exists():
            pytest.skip("dcmtk is not installed")
        subprocess.run([f"/usr/bin/{program}", path, tmp_path / "plain.dcm"], check=True)
        path = tmp_path / "plain.dcm"
    seen = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
    difference = np.abs(seen.astype(int) - sample.stored())
    assert difference.max() <= sample.tolerance


def test_no_gpl_decoder_is_installed_with_the_service() -> None:
    locks = sorted((Path(__file__).parents[3] / "deploy/locks").glob("requirements*.lock"))
    assert len(locks) >= 3
    for lock in locks:
        assert not re.search(r"^pylibjpeg-libjpeg|^pylibjpeg\[", lock.read_text(), re.MULTILINE)
