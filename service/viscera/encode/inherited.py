"""What a result takes over from its source: patient, study, and the scanner as a contributor.

References
----------
DICOM PS3.3 C.7.1.1 Patient, C.7.1.3 Clinical Trial Subject, C.7.2.1 General Study, C.7.2.2 Patient
Study, C.7.2.3 Clinical Trial Study, C.12.1.1.5 Contributing Equipment. Their sequences are left
out: `sources` keeps none.
"""

from collections.abc import Iterable
from copy import deepcopy

from pydicom.dataset import Dataset

PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "PatientSex",
    "QualityControlSubject",
    "StrainDescription",
    "StrainNomenclature",
    "StrainAdditionalInformation",
    "OtherPatientNames",
    "PatientSpeciesDescription",
    "PatientBreedDescription",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
)
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "ConsultingPhysicianName",
    "StudyDescription",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "StudyID",
    "RequestingService",
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientBodyMassIndex",
    "MeasuredAPDimension",
    "MeasuredLateralDimension",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientSexNeutered",
    "ReasonForVisit",
    "AdmissionID",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "PatientState",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType",
    "IssuerOfClinicalTrialTimePointID",
)
LOSSY = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
EQUIPMENT = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "InstitutionAddress",
    "StationName",
)


def inherit(ds: Dataset, header: Dataset, keywords: Iterable[str]) -> None:
    """Copy what `header` has of `keywords` into `ds`, element by element.

    A value that breaks its VR stays as it came: checking it again would only quote it in a warning.
    """
    for keyword in keywords:
        if keyword in header:
            ds.add(deepcopy(header[keyword]))  # assigning to a shared element would change both


def scanner(header: Dataset) -> Dataset | None:
    """Return the source's equipment as an item of a result; None where it does not say its maker.

    ``PurposeOfReferenceCodeSequence`` is left to the caller.
    """
    if not header.get("Manufacturer"):
        return None
    item = Dataset()
    inherit(item, header, (keyword for keyword in EQUIPMENT if header.get(keyword) is not None))
    item.ContributionDescription = "Acquisition equipment of the source image(s)"
    if header.get("AcquisitionDateTime"):
        item.ContributionDateTime = header.AcquisitionDateTime
    return item
