"""The kinds of SOP class partition what pynetdicom knows; the standard's names judge them."""

import pytest
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, sop_class

from viscera.receive.classes import DROPPED_TRANSFER_SYNTAXES, IMAGES, KINDS, TRANSFER_SYNTAXES


def test_kinds_and_images_partition_all_storage_classes():
    everything = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    parts = [IMAGES, *KINDS.values()]
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)


@pytest.mark.parametrize(
    ("kind", "keyword"),
    [
        ("SR", "ComprehensiveSRStorage"),
        ("SR", "Comprehensive3DSRStorage"),
        ("DOSE", "XRayRadiationDoseSRStorage"),
        ("DOSE", "RadiopharmaceuticalRadiationDoseSRStorage"),
        ("DOSE", "PatientRadiationDoseSRStorage"),
        ("DOSE", "EnhancedXRayRadiationDoseSRStorage"),
        ("KO", "KeyObjectSelectionDocumentStorage"),
        ("PR", "GrayscaleSoftcopyPresentationStateStorage"),
        ("SC", "SecondaryCaptureImageStorage"),
        ("SC", "MultiFrameTrueColorSecondaryCaptureImageStorage"),
        ("SEG", "SegmentationStorage"),
        ("SEG", "SurfaceSegmentationStorage"),
        ("SEG", "LabelMapSegmentationStorage"),
        ("OTHER", "RTStructureSetStorage"),
        ("OTHER", "EncapsulatedPDFStorage"),
        ("OTHER", "PositronEmissionTomographyImageStorage"),
        ("OTHER", "MRSpectroscopyStorage"),
    ],
)
def test_kind_of(kind, keyword):
    assert str(getattr(sop_class, keyword)) in KINDS[kind]


def test_images_are_the_six_that_can_be_stacked():
    assert {UID(uid).name for uid in IMAGES} == {
        "CT Image Storage",
        "Enhanced CT Image Storage",
        "Legacy Converted Enhanced CT Image Storage",
        "MR Image Storage",
        "Enhanced MR Image Storage",
        "Legacy Converted Enhanced MR Image Storage",
    }


def test_transfer_syntaxes_are_known_and_none_is_deflated():
    for uid in TRANSFER_SYNTAXES:
        assert UID(uid).is_transfer_syntax
    names = {UID(uid).name for uid in DROPPED_TRANSFER_SYNTAXES}
    assert not [name for name in names if "eflate" in name]
    assert len(set(DROPPED_TRANSFER_SYNTAXES)) == len(DROPPED_TRANSFER_SYNTAXES)
    assert set(TRANSFER_SYNTAXES) < set(DROPPED_TRANSFER_SYNTAXES)
