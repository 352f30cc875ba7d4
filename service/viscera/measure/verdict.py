"""Whether a result is worth delivering, with reasons that a radiologist can check."""

from collections.abc import Iterator, Sequence

from viscera.domain.anatomy import USUAL
from viscera.domain.models import Model, VerdictPolicy
from viscera.domain.results import Decision, OrganMeasurement, Presence, Verdict
from viscera.domain.volumes import Volume
from viscera.measure.flags import Found, is_possible, reversed_pairs

_MIRRORED_PAIRS = 2
"""This many pairs the wrong way round, and none the right way, are no slip of the network."""


def judge(measurements: Sequence[OrganMeasurement], volume: Volume, model: Model) -> Verdict:
    """Decide what becomes of a result.

    Parameters
    ----------
    measurements
        As `measure` gives them: their flags are reasons.
    volume
        What was segmented; its length along the patient stands in the reason to withhold.
    model
        Its `verdict` policy names the organs that make an abdomen. Without anchors only the
        source's defects and the sides are told; without `sides` either (a model of HU bands), only
        the defects.

    Returns
    -------
    Verdict
        `withhold` where too few anchors are there or right and left are exchanged throughout,
        `flag` where anatomy is contradicted or an organ is cut off, else `deliver`. Reasons are
        sentences without patient data.
    """
    policy = model.verdict
    found = {one.label.name: one for one in measurements if one.voxels}
    if not policy.anchors:
        flags = tuple(_flags(measurements)) if policy.sides else ()
        return _judge_sides(found, (*volume.defects, *flags), policy)
    believable = [name for name in policy.anchors if _is_anchor(found.get(name), policy)]
    if len(believable) < policy.min_anchors:
        return Verdict(Decision.WITHHOLD, (_not_an_abdomen(believable, volume, policy),))
    reasons = (*volume.defects, *_flags(measurements), *_cut_off(found))
    return _judge_sides(found, reasons, policy)


def _judge_sides(found: Found, reasons: tuple[str, ...], policy: VerdictPolicy) -> Verdict:
    """Withhold what is exchanged throughout; flag what has `reasons`."""
    wrong, pairs = reversed_pairs(found) if policy.sides else ([], 0)
    if len(wrong) == pairs and pairs >= _MIRRORED_PAIRS:
        return Verdict(Decision.WITHHOLD, (_MIRRORED, *reasons))
    return _flagged_for(reasons)


_MIRRORED = (
    "Right and left are exchanged for every pair of organs found: the sides in this result cannot "
    "be trusted."
)


def _flagged_for(reasons: tuple[str, ...]) -> Verdict:
    return Verdict(Decision.FLAG if reasons else Decision.DELIVER, reasons)


def _flags(measurements: Sequence[OrganMeasurement]) -> Iterator[str]:
    """Yield each sentence once: both organs of a pair carry the same."""
    yield from dict.fromkeys(flag.text for one in measurements for flag in one.flags)


def _is_anchor(organ: OrganMeasurement | None, policy: VerdictPolicy) -> bool:
    """An anchor of impossible size speaks for a mistake, not for an abdomen."""
    return organ is not None and organ.volume_ml >= policy.min_ml and is_possible(organ)


def _not_an_abdomen(believable: list[str], volume: Volume, policy: VerdictPolicy) -> str:
    seen = f"only {' and '.join(believable)}" if believable else "none"
    slices = volume.geometry.shape[0]
    return (
        f"This does not look like an abdomen: of {', '.join(policy.anchors)}, {seen} was found in "
        f"its {slices} slices with a believable volume of at least {policy.min_ml:g} mL; "
        f"{policy.min_anchors} are needed."
    )


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
