"""Whether a result is worth delivering, with reasons that a radiologist can check."""

from collections.abc import Iterator, Sequence

from viscera.domain.anatomy import RIGHT_OF, USUAL
from viscera.domain.models import Model, VerdictPolicy
from viscera.domain.results import Decision, OrganMeasurement, Presence, Verdict
from viscera.domain.volumes import Volume

Found = dict[str, OrganMeasurement]


def judge(measurements: Sequence[OrganMeasurement], volume: Volume, model: Model) -> Verdict:
    """Decide what becomes of a result.

    Parameters
    ----------
    measurements
        As `measure` gives them.
    volume
        What was segmented; its length along the patient stands in the reason to withhold.
    model
        Its `verdict` policy names the organs that make an abdomen. Without anchors the labels
        need not be anatomy (a model of HU bands), so only the source's defects are told.

    Returns
    -------
    Verdict
        `withhold` where too few anchors are there, `flag` where anatomy is contradicted or an
        organ is cut off, else `deliver`. Reasons are sentences without patient data.
    """
    policy = model.verdict
    if not policy.anchors:
        return _flagged_for(volume.defects)
    found = {one.label.name: one for one in measurements if one.voxels}
    believable = [name for name in policy.anchors if _is_anchor(found.get(name), policy)]
    if len(believable) < policy.min_anchors:
        return Verdict(Decision.WITHHOLD, (_not_an_abdomen(believable, volume, policy),))
    reasons = (*volume.defects, *_misplaced(found), *_impossible(found), *_cut_off(found))
    return _flagged_for(reasons)


def _flagged_for(reasons: tuple[str, ...]) -> Verdict:
    return Verdict(Decision.FLAG if reasons else Decision.DELIVER, reasons)


def _is_anchor(organ: OrganMeasurement | None, policy: VerdictPolicy) -> bool:
    """An anchor of impossible size speaks for a mistake, not for an abdomen."""
    return organ is not None and organ.volume_ml >= policy.min_ml and _size_fault(organ) == ""


def _not_an_abdomen(believable: list[str], volume: Volume, policy: VerdictPolicy) -> str:
    seen = f"only {' and '.join(believable)}" if believable else "none"
    slices = volume.geometry.shape[0]
    return (
        f"This does not look like an abdomen: of {', '.join(policy.anchors)}, {seen} was found in "
        f"its {slices} slices with a believable volume of at least {policy.min_ml:g} mL; "
        f"{policy.min_anchors} are needed."
    )


def _misplaced(found: Found) -> Iterator[str]:
    for right, left in RIGHT_OF:
        first, second = found.get(right), found.get(left)
        if first is None or second is None or not first.centroid_lps or not second.centroid_lps:
            continue
        # x of LPS grows towards the patient's left.
        if first.centroid_lps[0] >= second.centroid_lps[0]:
            yield (
                f"The {right} lies to the patient's left of the {left}: the series may be stored "
                "mirrored, the organs may lie reversed, or the label map is wrong."
            )


def _impossible(found: Found) -> Iterator[str]:
    yield from (fault for one in found.values() if (fault := _size_fault(one)))


def _size_fault(organ: OrganMeasurement) -> str:
    usual = USUAL.get(organ.label.name)
    if usual is None:
        return ""
    title, volume_ml = organ.label.title, organ.volume_ml
    if volume_ml > usual.most_ml:
        return (
            f"{title}: {volume_ml:.0f} mL is more than the {usual.most_ml:g} mL thought possible."
        )
    if organ.presence is Presence.FOUND and volume_ml < usual.least_ml:
        return (
            f"{title}: {volume_ml:.1f} mL is less than the {usual.least_ml:g} mL thought possible."
        )
    return ""


def _cut_off(found: Found) -> Iterator[str]:
    cut = [
        one.label.title
        for one in found.values()
        if one.presence is Presence.FOUND_TRUNCATED and _should_be_whole(one.label.name)
    ]
    if cut:
        yield (
            f"Cut off by the edge of the scan: {', '.join(cut)}. Their volumes are lower bounds."
        )


def _should_be_whole(name: str) -> bool:
    """Vessels and esophagus run out of every abdominal scan: no reason to flag one."""
    return name not in USUAL or USUAL[name].compact
