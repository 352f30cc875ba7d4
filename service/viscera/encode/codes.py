"""Coded concepts of results. SNOMED CT, DCM (PS3.16 annex D), UCUM, LOINC (CID 100)."""

from highdicom.sr.coding import CodedConcept
from pydicom.sr.coding import Code as PydicomCode

from viscera.domain.models import Code

ARTIFICIAL_INTELLIGENCE = PydicomCode("123110", "DCM", "Artificial Intelligence")
SEGMENTATION = PydicomCode("113076", "DCM", "Segmentation")
SOURCE_IMAGE = PydicomCode("121322", "DCM", "Source image for image processing operation")
ACQUISITION_EQUIPMENT = PydicomCode("109101", "DCM", "Acquisition Equipment")
SUM_OF_VOXELS = PydicomCode("126030", "DCM", "Sum of segmented voxel volumes")
VOLUME = PydicomCode("118565006", "SCT", "Volume")
MILLILITER = PydicomCode("mL", "UCUM", "milliliter")
ATTENUATION = PydicomCode("112031", "DCM", "Attenuation Coefficient")
HOUNSFIELD = PydicomCode("[hnsf'U]", "UCUM", "Hounsfield unit")
MR_SIGNAL = PydicomCode("110852", "DCM", "MR signal intensity")
NO_UNITS = PydicomCode("1", "UCUM", "no units")
MEAN = PydicomCode("373098007", "SCT", "Mean")
STANDARD_DEVIATION = PydicomCode("386136009", "SCT", "Standard Deviation")
COMMENT = PydicomCode("121106", "DCM", "Comment")
QUALITATIVE_EVALUATIONS = PydicomCode("C0034375", "UMLS", "Qualitative Evaluations")
CT_PROCEDURE = PydicomCode("25045-6", "LN", "CT unspecified body region")
MR_PROCEDURE = PydicomCode("25056-3", "LN", "MRI unspecified body region")


def concept(code: Code) -> CodedConcept:
    """Return a code of the domain as highdicom wants it."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
