"""What stands in a SEG's header of its segments and of the model that found them."""

from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode

from viscera.domain.models import Code
from viscera.encode import codes
from viscera.encode.context import ResultContext
from viscera.encode.identity import Identity
from viscera.encode.segments import Segment


def segment_item(segment: Segment, context: ResultContext, identity: Identity) -> Dataset:
    """Return the item of Segment Sequence that describes `segment`.

    References
    ----------
    DICOM PS3.3 C.8.20.4. The laterality stands within the item of the property's type.
    """
    label = segment.label
    ds = Dataset()
    ds.SegmentNumber = segment.number
    ds.SegmentLabel = label.title
    ds.SegmentedPropertyCategoryCodeSequence = [_domain_code(label.category)]
    ds.SegmentedPropertyTypeCodeSequence = [_domain_code(label.type)]
    if label.laterality is not None:
        kind = ds.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_domain_code(label.laterality)]
    ds.SegmentAlgorithmType = "AUTOMATIC"
    ds.SegmentAlgorithmName = context.model.name
    ds.SegmentationAlgorithmIdentificationSequence = [_algorithm(context)]
    ds.TrackingID = identity.tracking_id(label.title)
    ds.TrackingUID = identity.tracking_uid(label.name)
    ds.RecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*label.rgb).value)
    return ds


def code_item(code: PydicomCode) -> Dataset:
    """Return a coded concept as an item (PS3.3 section 8)."""
    ds = Dataset()
    ds.CodeValue = code.value
    ds.CodingSchemeDesignator = code.scheme_designator
    ds.CodeMeaning = code.meaning
    return ds


def _domain_code(code: Code) -> Dataset:
    return code_item(PydicomCode(code.value, code.scheme, code.meaning))


def _algorithm(context: ResultContext) -> Dataset:
    model = context.model
    ds = Dataset()
    ds.AlgorithmName = model.name
    ds.AlgorithmVersion = model.version
    ds.AlgorithmFamilyCodeSequence = [code_item(codes.ARTIFICIAL_INTELLIGENCE)]
    ds.AlgorithmSource = "Viscera"
    ds.AlgorithmParameters = f"model_sha256={model.digest},engine={context.engine}"
    return ds
