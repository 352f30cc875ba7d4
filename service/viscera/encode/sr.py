"""SR: a TID 1500 measurement report over the segments of a SEG, through highdicom."""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import ExplicitVRLittleEndian

from viscera import __version__
from viscera.domain.results import OrganMeasurement, Verdict
from viscera.encode import codes
from viscera.encode.context import Predecessor, ResultContext
from viscera.encode.identity import Identity, derived_uid
from viscera.encode.sources import CHARACTER_SET, Sources
from viscera.encode.stamp import day_and_time, finish, local_moment
from viscera.encode.words import organ_words, result_lines

Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


def encode_sr(
    seg: Dataset,
    measurements: Sequence[OrganMeasurement],
    verdict: Verdict,
    sources: Sources,
    context: ResultContext,
    identity: Identity,
) -> Dataset:
    """Return the report on a SEG.

    Parameters
    ----------
    seg
        The SEG; found organs refer to its segments.
    measurements
        Labels resolved by sex, as the SEG's. Organs without voxels are groups too, with words in
        place of numbers, so that a reader sees what was looked for.
    verdict
        Its reasons stand among the report's qualitative evaluations.
    sources
        Slices are evidence only; listing them as an image library would cost ten seconds.
    context, identity
        As for the SEG. A predecessor is named in PredecessorDocumentsSequence.
    """
    moment = local_moment(context.created_at, sources.header, context.site)
    day, time = day_and_time(moment)
    report = _report(seg, measurements, sources, context, identity)
    _add_words(report, result_lines(verdict, context))
    before = context.predecessor
    sr: Dataset = ComprehensiveSR(
        evidence=[*sources.instances(), seg],
        content=report[0],
        series_instance_uid=identity.sr_series_uid,
        series_number=sources.series_number(2),
        sop_instance_uid=identity.sr_uid,
        instance_number=1,
        manufacturer="Viscera",
        manufacturer_model_name="Viscera",
        software_versions=__version__,
        device_serial_number=context.model.digest[:64],
        series_description=context.describe("Organ volumes"),
        is_complete=True,
        is_final=True,
        previous_versions=[_reference(before)] if before else None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_date=day,
        content_time=time,
        series_date=day,
        series_time=time,
        specific_character_set=CHARACTER_SET,
    )
    finish(sr, moment, sources.header)
    return sr


def _report(
    seg: Dataset,
    measurements: Sequence[OrganMeasurement],
    sources: Sources,
    context: ResultContext,
    identity: Identity,
) -> MeasurementReport:
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", context.model.digest),
        name="Viscera",
        manufacturer_name="Viscera",
        model_name=context.model.full_name,
        serial_number=context.model.digest,
    )
    observer = ObserverContext(
        observer_type=dictionary.DCM.Device, observer_identifying_attributes=device
    )
    modality = sources.stack.facts.modality
    tracked = {item.TrackingUID: item.SegmentNumber for item in seg.SegmentSequence}
    algorithm = AlgorithmIdentification(
        name=context.model.name,
        version=context.model.version,
        parameters=[f"model_sha256={context.model.digest}", f"engine={context.engine}"],
    )
    groups: list[Group] = []
    for one in measurements:
        tracking = TrackingIdentifier(
            identifier=identity.tracking_id(one.label.title),
            uid=identity.tracking_uid(one.label.name),
        )
        if one.voxels:
            segment = ReferencedSegment(
                sop_class_uid=seg.SOPClassUID,
                sop_instance_uid=seg.SOPInstanceUID,
                segment_number=tracked[identity.tracking_uid(one.label.name)],
                source_series=SourceSeriesForSegmentation(sources.stack.facts.series_uid),
            )
            groups.append(_found_group(one, tracking, segment, algorithm, modality))
        else:
            groups.append(_absent_group(one, tracking))
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.MR_PROCEDURE if modality == "MR" else codes.CT_PROCEDURE,
        imaging_measurements=groups,
    )


def _found_group(
    organ: OrganMeasurement,
    tracking: TrackingIdentifier,
    segment: ReferencedSegment,
    algorithm: AlgorithmIdentification,
    modality: str,
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    label = organ.label
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_segment=segment,
        finding_category=codes.concept(label.category),
        finding_type=codes.concept(label.type),
        method=codes.SUM_OF_VOXELS,
        algorithm_id=algorithm,
        finding_sites=[_site(organ)],
        measurements=_numbers(organ, modality),
    )
    _comment(group, organ_words(organ))
    return group


def _absent_group(
    organ: OrganMeasurement, tracking: TrackingIdentifier
) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        finding_category=codes.concept(organ.label.category),
        finding_type=codes.concept(organ.label.type),
        finding_sites=[_site(organ)],
    )
    _comment(group, organ_words(organ))
    return group


def _site(organ: OrganMeasurement) -> FindingSite:
    label = organ.label
    return FindingSite(
        anatomic_location=codes.concept(label.type),
        laterality=codes.concept(label.laterality) if label.laterality else None,
    )


def _numbers(organ: OrganMeasurement, modality: str) -> list[Measurement]:
    """Rounded to what a reader can use; volumes.json has the rest."""
    name, unit = (
        (codes.ATTENUATION, codes.HOUNSFIELD)
        if modality == "CT"
        else (codes.MR_SIGNAL, codes.NO_UNITS)
    )
    numbers = [
        Measurement(name=codes.VOLUME, value=round(organ.volume_ml, 3), unit=codes.MILLILITER)
    ]
    for value, derivation in (
        (organ.mean_intensity, codes.MEAN),
        (organ.sd_intensity, codes.STANDARD_DEVIATION),
    ):
        if value is not None:
            numbers.append(
                Measurement(name=name, value=round(value, 2), unit=unit, derivation=derivation)
            )
    return numbers


def _comment(group: Sequence[Dataset], text: str) -> None:
    """TID 1501 takes evaluations as text, which highdicom has no argument for."""
    group[0].ContentSequence.append(_text(text))


def _text(text: str) -> TextContentItem:
    return TextContentItem(
        name=codes.COMMENT, value=text, relationship_type=RelationshipTypeValues.CONTAINS
    )


def _add_words(report: MeasurementReport, lines: Sequence[str]) -> None:
    """Append TID 1500's container of qualitative evaluations."""
    container = ContainerContentItem(
        name=codes.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = ContentSequence([_text(line) for line in lines])
    report[0].ContentSequence.append(container)


def _reference(predecessor: Predecessor) -> Dataset:
    ds = Dataset()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = predecessor.study_uid, predecessor.series_uid
    ds.SOPClassUID, ds.SOPInstanceUID = predecessor.sop_class_uid, predecessor.sop_uid
    return ds
