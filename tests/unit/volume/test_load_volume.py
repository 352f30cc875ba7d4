"""Stored values to intensities, judged by arithmetic on what the test itself stored, and by ITK."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from volume_builders import image, rescale_item, save, stack_of

from viscera.domain.volumes import Volume
from viscera.errors import DatasetMismatch, UndecodablePixels
from viscera.volume import DecodePool, load_volume
from viscera.volume.proof import FOLDER, SOP_UID

RNG = np.random.default_rng(5)


def load(
    pool: DecodePool, folder: Path, *datasets: Dataset, modality: str = "CT", implicit: bool = False
) -> Volume:
    slices = []
    for k, ds in enumerate(datasets):
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        slices.append((save(ds, folder / f"{k}.dcm"), str(ds.SOPInstanceUID), 1))
    size = (datasets[0].Rows, datasets[0].Columns)
    return load_volume(stack_of(slices, size, modality), pool)


def signed(low: int = -1000, high: int = 3000) -> np.ndarray:
    return RNG.integers(low, high, (6, 5)).astype(np.int16)


def test_each_slice_has_its_own_rescale(pool: DecodePool, tmp_path: Path) -> None:
    stored = [signed() for _ in range(3)]
    rescales = [(1, -1024), (2, -500), (1, 0)]
    volume = load(
        pool,
        tmp_path,
        *(
            image(s, f"1.2.{k}", RescaleSlope=str(a), RescaleIntercept=str(b))
            for k, (s, (a, b)) in enumerate(zip(stored, rescales, strict=True))
        ),
    )
    expected = [s.astype(int) * a + b for s, (a, b) in zip(stored, rescales, strict=True)]
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels, expected)
    assert volume.padding is None
    assert not volume.voxels.flags.writeable


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_padding_is_masked_before_the_rescale(
    pool: DecodePool, tmp_path: Path, modality: str, implicit: bool
) -> None:
    stored = signed(0, 3000)
    stored[0, :3] = -2000
    ds = image(stored, PixelPaddingValue=-2000)
    ds["PixelPaddingValue"].VR = "SS"
    plain = image(signed(0, 3000), "1.2.9")
    volume = load(pool, tmp_path, ds, plain, modality=modality, implicit=implicit)
    assert volume.padding is not None
    assert np.array_equal(volume.padding[0], stored == -2000)
    assert not volume.padding[1].any()
    expected = np.where(stored == -2000, -1024 if modality == "CT" else 0, stored - 1024)
    assert np.array_equal(volume.voxels[0], expected)


def test_padding_written_unsigned_for_signed_pixels(pool: DecodePool, tmp_path: Path) -> None:
    stored = signed(0, 100)
    stored[2, 2] = -2000
    ds = image(stored)
    ds.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert load(pool, tmp_path, ds).voxels[0, 2, 2] == -1024


@pytest.mark.parametrize(("value", "limit"), [(-2000, -1990), (-1990, -2000)])
def test_padding_may_be_a_range_either_way_round(
    pool: DecodePool, tmp_path: Path, value: int, limit: int
) -> None:
    stored = signed(0, 100)
    stored[1] = [-2000, -1995, -1990, -1989, -2001]
    ds = image(stored)
    ds.add_new("PixelPaddingValue", "SS", value)
    ds.add_new("PixelPaddingRangeLimit", "SS", limit)
    volume = load(pool, tmp_path, ds)
    assert volume.voxels[0, 1].tolist() == [-1024, -1024, -1024, -3013, -3025]


def test_padding_out_of_reach_does_not_force_float(pool: DecodePool, tmp_path: Path) -> None:
    stored = RNG.integers(0, 4000, (6, 5)).astype(np.uint16)
    stored[0, 0] = 65535
    ds = image(stored, PixelPaddingValue=65535)
    ds["PixelPaddingValue"].VR = "US"
    volume = load(pool, tmp_path, ds)
    assert volume.voxels.dtype == np.int16
    assert volume.voxels[0, 0, 0] == -1024
    assert np.array_equal(volume.voxels[0, 1:], stored[1:].astype(int) - 1024)


def test_whole_numbers_that_do_not_fit_are_float(pool: DecodePool, tmp_path: Path) -> None:
    stored = np.array([[0, 65535], [40000, 1]], np.uint16)
    volume = load(pool, tmp_path, image(stored, RescaleIntercept="0"))
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels[0], stored)


def test_large_unsigned_values_that_fit_after_the_rescale_are_exact(
    pool: DecodePool, tmp_path: Path
) -> None:
    stored = np.array([[0, 65535], [40000, 1]], np.uint16)
    volume = load(pool, tmp_path, image(stored, RescaleIntercept="-32768"))
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels[0], stored.astype(int) - 32768)


@pytest.mark.parametrize(("slope", "dtype"), [("0.5", np.int16), ("0.25", np.float32)])
def test_fractional_slope_is_int16_only_where_results_are_whole(
    pool: DecodePool, tmp_path: Path, slope: str, dtype: type
) -> None:
    stored = 2 * signed() + np.int16(0)
    stored[0, 0] = 2
    volume = load(pool, tmp_path, image(stored, RescaleSlope=slope, RescaleIntercept="-3"))
    assert volume.voxels.dtype == dtype
    assert np.array_equal(volume.voxels[0], stored * float(slope) - 3)


def test_one_fractional_slice_makes_the_whole_volume_float(
    pool: DecodePool, tmp_path: Path
) -> None:
    stored = [signed() for _ in range(3)]
    slopes = ["1", "0.3", "2"]
    volume = load(
        pool,
        tmp_path,
        *(
            image(s, f"1.2.{k}", RescaleSlope=slope)
            for k, (s, slope) in enumerate(zip(stored, slopes, strict=True))
        ),
    )
    assert volume.voxels.dtype == np.float32
    expected = [s * float(slope) - 1024 for s, slope in zip(stored, slopes, strict=True)]
    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["i", "u"])
def test_bits_above_the_stored_ones_are_ignored(
    pool: DecodePool, tmp_path: Path, kind: str
) -> None:
    low = -2048 if kind == "i" else 0
    meant = RNG.integers(low, low + 4096, (6, 5))
    overlay = RNG.integers(0, 16, (6, 5)) << 12
    words = ((meant & 0xFFF) | overlay).astype(np.uint16).view(f"{kind}2")
    ds = image(words, BitsStored=12, HighBit=11)
    assert np.array_equal(load(pool, tmp_path, ds).voxels[0], meant - 1024)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_other_byte_orders_and_vrs(pool: DecodePool, tmp_path: Path, syntax: str) -> None:
    stored = signed()
    big = syntax.endswith(".2.2")
    ds = image(stored)
    ds.PixelData = stored.astype(">i2" if big else "<i2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(load(pool, tmp_path, ds).voxels[0], stored - 1024)


def test_eight_bits(pool: DecodePool, tmp_path: Path) -> None:
    stored = RNG.integers(0, 256, (6, 5)).astype(np.uint8)
    assert np.array_equal(
        load(pool, tmp_path, image(stored), modality="MR").voxels[0], stored.astype(int) - 1024
    )


def test_monochrome1_is_a_matter_of_display(pool: DecodePool, tmp_path: Path) -> None:
    stored = signed()
    volume = load(pool, tmp_path, image(stored, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(volume.voxels[0], stored - 1024)


def test_mr_without_rescale_is_as_stored(pool: DecodePool, tmp_path: Path) -> None:
    stored = signed(0, 2000)
    ds = image(stored, RescaleSlope=None, RescaleIntercept=None)
    assert np.array_equal(load(pool, tmp_path, ds, modality="MR").voxels[0], stored)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"RescaleSlope": None}, "without RescaleSlope"),
        ({"RescaleSlope": "0"}, "not 0"),
        ({"RescaleSlope": "1e300"}, "finite"),
        ({"SamplesPerPixel": 3}, "one grey sample"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "one grey sample"),
        ({"HighBit": 14, "BitsStored": 12}, "right-aligned"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "8 or 16 bits"),
        ({"PixelData": b"\0" * 48}, "48 bytes of pixels, its header promises 60"),
        ({"PixelData": None}, "no pixel data"),
        ({"PixelRepresentation": None}, "cannot be decoded"),
    ],
)
def test_refusals_name_the_instance_and_no_patient(
    pool: DecodePool, tmp_path: Path, attributes: dict[str, object], says: str
) -> None:
    ds = image(signed(), "1.2.3.77")
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
        if value is None:
            delattr(ds, keyword)
    with pytest.raises(UndecodablePixels, match=says) as refusal:
        load(pool, tmp_path, ds)
    assert "1.2.3.77" in str(refusal.value)
    assert "Secret" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_a_transfer_syntax_that_runs_on_into_the_data_set_is_not_quoted(
    pool: DecodePool, tmp_path: Path
) -> None:
    path = save(image(signed()), tmp_path / "a.dcm")
    whole = path.read_bytes()
    at = whole.index(b"\x02\x00\x10\x00UI") + 6
    path.write_bytes(whole[:at] + (200).to_bytes(2, "little") + whole[at + 2 :])
    with pytest.raises(UndecodablePixels, match="transfer syntax") as refusal:
        load_volume(stack_of([(path, "1.2.3.1", 1)], (6, 5)), pool)
    assert "Secret" not in str(refusal.value)


def test_few_bytes_for_many_pixels_allocate_nothing(pool: DecodePool, tmp_path: Path) -> None:
    ds = image(signed(), PixelData=b"\0" * 88)
    ds.Rows = ds.Columns = 65535
    with pytest.raises(UndecodablePixels, match="88 bytes of pixels"):
        load(pool, tmp_path, ds)


def test_truncated_file(pool: DecodePool, tmp_path: Path) -> None:
    path = save(image(signed()), tmp_path / "cut.dcm")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UndecodablePixels, match="truncated"):
        load_volume(stack_of([(path, "1.2.3.1", 1)], (6, 5)), pool)


def test_file_that_is_no_dicom_or_is_gone(pool: DecodePool, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("Secret^Patient")
    for name in ("text.dcm", "missing.dcm"):
        with pytest.raises(UndecodablePixels, match="cannot be decoded"):
            load_volume(stack_of([(tmp_path / name, "1.2.3.1", 1)], (6, 5)), pool)


def test_file_that_is_not_what_was_stacked(pool: DecodePool, tmp_path: Path) -> None:
    path = save(image(signed(), "1.2.3.1"), tmp_path / "a.dcm")
    with pytest.raises(DatasetMismatch, match="another SOP instance"):
        load_volume(stack_of([(path, "1.2.3.2", 1)], (6, 5)), pool)
    with pytest.raises(DatasetMismatch, match="6x5 pixels, expected 5x6"):
        load_volume(stack_of([(path, "1.2.3.1", 1)], (5, 6)), pool)
    with pytest.raises(DatasetMismatch, match="1 frames"):
        load_volume(stack_of([(path, "1.2.3.1", 2)], (6, 5)), pool)


@pytest.mark.parametrize("compressed", [False, True])
def test_enhanced_frames_by_number_with_their_own_rescale(
    pool: DecodePool, tmp_path: Path, compressed: bool
) -> None:
    count = 37
    stored = RNG.integers(0, 3000, (count, 6, 5)).astype(np.int16)
    ds = image(stored, "1.2.3.5", RescaleSlope=None, RescaleIntercept=None)
    ds.SharedFunctionalGroupsSequence = Items([rescale_item(1, -1024)])
    ds.PerFrameFunctionalGroupsSequence = Items(
        [rescale_item(1 + k % 3, -k) if k % 5 else Dataset() for k in range(count)]
    )
    if compressed:
        ds.compress(RLELossless, generate_instance_uid=False)
    path = save(ds, tmp_path / "e.dcm")
    order = RNG.permutation(count)
    volume = load_volume(stack_of([(path, "1.2.3.5", int(k) + 1) for k in order], (6, 5)), pool)
    expected = [
        stored[k].astype(int) * (1 + k % 3) - k if k % 5 else stored[k] - 1024 for k in order
    ]
    assert np.array_equal(volume.voxels, expected)


def test_real_series_equals_what_itk_reads(pool: DecodePool, shared_data: Path) -> None:
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))[:8]
    uids = [str(dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in paths]
    volume = load_volume(
        stack_of([(p, u, 1) for p, u in zip(paths, uids, strict=True)], (512, 512)), pool
    )
    judge = np.concatenate([sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in paths])
    measured = np.ones(judge.shape, bool) if volume.padding is None else ~volume.padding
    assert measured.mean() > 0.5
    assert np.array_equal(volume.voxels[measured], judge[measured])
    assert (volume.voxels[~measured] == -1024).all()


LOSSLESS = ("1.2", "1.2.1", "1.2.2", "1.2.5", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90")


def _one(shared_data: Path, pool: DecodePool, suffix: str) -> Volume:
    folder = shared_data / "odd" / "transfer_syntaxes"
    (path,) = folder.glob(f"CTImage.dcm_*_1.2.840.10008.{suffix}.dcm")
    uid = str(dcmread(path, stop_before_pixels=True, defer_size=1).SOPInstanceUID)
    return load_volume(stack_of([(path, uid, 1)], (512, 512)), pool)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_transfer_syntaxes_decode_to_the_same(
    pool: DecodePool, shared_data: Path, suffix: str
) -> None:
    plain = sitk.ReadImage(str(shared_data / "odd" / "transfer_syntaxes" / "CTImage.dcm"))
    judge = sitk.GetArrayFromImage(plain)
    volume = _one(shared_data, pool, suffix)
    assert np.array_equal(volume.voxels, judge)
    assert judge.std() > 100


@pytest.mark.parametrize("suffix", ["1.2.4.50", "1.2.4.51", "1.2.4.81", "1.2.4.91"])
def test_lossy_transfer_syntaxes_decode_as_itk_reads_them(
    pool: DecodePool, shared_data: Path, suffix: str
) -> None:
    (path,) = (shared_data / "odd" / "transfer_syntaxes").glob(
        f"CTImage*_1.2.840.10008.{suffix}.dcm"
    )
    judge = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(float)
    volume = _one(shared_data, pool, suffix)
    slope = float(dcmread(path, stop_before_pixels=True).RescaleSlope)
    # Two codecs may round the same coefficient either way.
    assert np.abs(volume.voxels - judge).max() <= slope + 0.5
    assert judge.std() > 100


def test_a_12_bit_jpeg_that_is_cut_off_is_refused(pool: DecodePool, tmp_path: Path) -> None:
    ds = dcmread(FOLDER / "1.2.840.10008.1.2.4.51-unsigned.dcm")
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    for number, share in enumerate((0.3, 0.7, 0.98)):
        ds.PixelData = encapsulate([frame[: int(len(frame) * share)]])
        path = save(ds, tmp_path / f"{number}.dcm")
        with pytest.raises(UndecodablePixels, match="cannot be decoded as 12-bit JPEG"):
            load_volume(stack_of([(path, SOP_UID, 1)], (33, 41)), pool)


@pytest.mark.parametrize("suffix", ["1.2.4.53", "1.2.4.55", "1.2.1.99"])
def test_transfer_syntaxes_without_a_decoder_are_refused(
    pool: DecodePool, shared_data: Path, suffix: str
) -> None:
    with pytest.raises(UndecodablePixels, match=r"transfer syntax 1\.2\.840.*not supported"):
        _one(shared_data, pool, suffix)


@pytest.mark.parametrize("suffix", ["1.2.5", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90"])
def test_truncated_codestreams_are_refused(
    pool: DecodePool, shared_data: Path, tmp_path: Path, suffix: str
) -> None:
    folder = shared_data / "odd" / "transfer_syntaxes"
    (source,) = folder.glob(f"CTImage.dcm_*_1.2.840.10008.{suffix}.dcm")
    uid = str(dcmread(source, stop_before_pixels=True).SOPInstanceUID)
    whole = source.read_bytes()
    for share in (0.95,):  # pyjpegls needs seconds to give up on half a codestream
        path = tmp_path / f"{share}.dcm"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UndecodablePixels, match="cannot be decoded"):
            load_volume(stack_of([(path, uid, 1)], (512, 512)), pool)
