"""The report as others read it: dciodvfy, dsrdump, highdicom."""

import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import pydicom
import pytest
from encode_series import SHAPE, write_enhanced, write_single_frames
from encode_stacks import blobs, context, model, stack_of, volume_of
from highdicom.sr.utils import find_content_items
from test_encode_seg import encoded, errors_of

from viscera.domain.models import VerdictPolicy
from viscera.domain.organs import AMOS
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.encode import Predecessor, write_results
from viscera.measure import measure

DSRDUMP = Path("/usr/bin/dsrdump")


def read(path: Path):
    return highdicom.sr.srread(path)


def groups_by_segment(sr) -> dict[int, object]:
    groups = sr.content.get_volumetric_roi_measurement_groups()
    return {_segment(group): group for group in groups}


def _segment(group) -> int:
    (item,) = [one for one in group[0].ContentSequence if one.name.value == "121191"]
    return item.referenced_segment_numbers[0]


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """Return (SEG, SR, measurements) of the real series with a made-up label map."""
    tmp_path = tmp_path_factory.mktemp("real")
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))
    stack = stack_of(paths)
    volume = volume_of(stack)
    labels = blobs(volume.geometry.shape, range(1, 16))
    labels[labels == 4] = 0
    rows = measure(labels, volume, model())
    files = write_results(
        labels=labels, volume=volume, stack=stack, measurements=rows,
        verdict=Verdict(Decision.FLAG, ("Liver: too large.",)), context=context(),
        folder=tmp_path / "job" / "1",
    )  # fmt: skip
    paths = {one.kind: tmp_path / one.path for one in files}
    return paths[ResultKind.SEG], paths[ResultKind.SR], rows


def test_numbers_have_units_methods_and_sides(real):
    seg_path, sr_path, rows = real
    assert errors_of(sr_path) == []
    seg, sr = pydicom.dcmread(seg_path), read(sr_path)
    groups = groups_by_segment(sr)
    assert len(groups) == len(seg.SegmentSequence) == 14
    for item in seg.SegmentSequence:
        group = groups[item.SegmentNumber]
        (measured,) = [
            one
            for one in rows
            if item.SegmentLabel in (one.label.title, "Uterus" if one.label.value == 15 else "")
        ]
        assert group.tracking_uid == item.TrackingUID
        assert group.method.value == "126030"
        (site,) = group.finding_sites
        side = measured.label.laterality
        assert (site.laterality.value if site.laterality else None) == (
            side.value if side else None
        )
        volume, mean, sd = group.get_measurements()
        assert volume.unit.value == "mL"
        assert volume.value == pytest.approx(measured.volume_ml, abs=5e-4)
        assert mean.unit.value == sd.unit.value == "[hnsf'U]"
        assert mean.value == pytest.approx(measured.mean_intensity, abs=5e-3)
        assert sd.value == pytest.approx(measured.sd_intensity, abs=5e-3)
        assert (mean.derivation.value, sd.derivation.value) == ("373098007", "386136009")


def test_words_stand_in_the_report(real):
    text = "\n".join(
        item.value
        for item in find_content_items(read(real[1]).content[0], value_type="TEXT", recursive=True)
    )
    assert "NOT FOR CLINICAL USE. Model organs/3, grade research." in text
    assert "Liver: too large." in text
    assert "Not found by the algorithm" in text
    assert "ab" * 32 in text


def test_sources_are_evidence_but_no_library(real):
    seg_path, sr_path, _ = real
    sr = pydicom.dcmread(sr_path)
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert len(evidence) == 36
    assert pydicom.dcmread(seg_path).SOPInstanceUID in evidence
    assert sr_path.stat().st_size < 150_000


def test_dcmtk_reads_it(real):
    if not DSRDUMP.exists():
        pytest.skip("dcmtk's dsrdump is not installed; `make peers` installs it")
    done = subprocess.run([DSRDUMP, "+Pc", real[1]], capture_output=True, text=True, check=True)
    assert "E:" not in done.stderr
    assert "(126030,DCM" in done.stdout
    assert "contains NUM:" in done.stdout


def test_predecessor_is_named(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    before = Predecessor("1.2.3.4", "1.2.9", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.9.1")
    files = encoded(stack, blobs(SHAPE, range(1, 4)), tmp_path, predecessor=before)
    sr = pydicom.dcmread(files[ResultKind.SR])
    (study,) = sr.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    assert (
        study.StudyInstanceUID, series.SeriesInstanceUID,
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID,
    ) == before  # fmt: skip
    assert errors_of(files[ResultKind.SR]) == []


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_enhanced_source_is_evidence_under_its_own_class(modality, tmp_path):
    stack = stack_of(write_enhanced(tmp_path, modality=modality))
    files = encoded(stack, blobs(SHAPE, range(1, 4)), tmp_path)
    assert errors_of(files[ResultKind.SR]) == []
    sr = read(files[ResultKind.SR])
    series = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    classes = [[one.ReferencedSOPClassUID for one in item.ReferencedSOPSequence] for item in series]
    assert [stack.facts.sop_class_uid] * 2 in classes
    mean = groups_by_segment(sr)[1].get_measurements()[1]
    assert mean.unit.value == {"CT": "[hnsf'U]", "MR": "1"}[modality]


def test_withheld_result_has_no_dicom_objects(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    strict = replace(model(), verdict=VerdictPolicy(anchors=("liver",), min_anchors=1))
    labels = blobs(SHAPE, range(1, 6))
    assert AMOS[5].name == "liver"
    files = encoded(stack, labels, tmp_path, model=strict)
    assert set(files) == {ResultKind.QC, ResultKind.VOLUMES}
