"""The model card: where the weights came from, how they are run, what was not measured."""

from collections.abc import Sequence

from viscera.models.nnunet.labels import joined
from viscera.models.nnunet.request import TOTALSEGMENTATOR_STEP, Request
from viscera.models.nnunet.source import Source

_CARD = """# {name}/{version}

Imported from nnU-Net v2{parts}.
NOT FOR CLINICAL USE: nothing was validated here.

{networks}
- **Labels reported**: {labels}.
- **Licence**: {licence}.
- **Checked at import**: every engine of the machine against torch's own logits on one tile.
- **Accuracy**: not measured here.
"""
_PARTS = """ as {count} networks, one after the other; where two claim a voxel, the later
one has it"""
_NETWORK = """- **{title}**: {dataset}, {plans}, trainer {trainer}, configuration {configuration};
  {network}, folds {folds} ({checkpoint}){ensemble}; {size:.1f} MB of float32.
- **Input**: channels {channels}; spacing {spacing} mm, patch {patch}, axes after nnU-Net's
  transposition.
- **Mirroring**: {mirroring}"""
_TOTALSEGMENTATOR = """
- **TotalSegmentator's own answer**: {how} resampling onto {spacing} mm and whole numbers before
  nnU-Net, steps of {step:g}, no mirroring, labels back by the nearest voxel."""


def card(request: Request, sources: Sequence[Source]) -> str:
    """Return the card as Markdown."""
    labels = joined([one.tables for one in sources])[0].labels
    return _CARD.format(
        name=request.name,
        version=request.version,
        parts=_PARTS.format(count=len(sources)) if len(sources) > 1 else "",
        networks="\n".join(
            _network(request, one, f"Part {k}" if len(sources) > 1 else "Network")
            for k, one in enumerate(sources, start=1)
        )
        + _first(request, sources[0]),
        labels=", ".join(one if isinstance(one, str) else one["name"] for one in labels),
        licence=request.licence,
    )


def _network(request: Request, source: Source, title: str) -> str:
    found, facts = source.found, source.facts
    return _NETWORK.format(
        title=title,
        configuration=found.name,
        network=found.network,
        folds=", ".join(facts["folds"]),
        checkpoint=request.checkpoint,
        ensemble=", their logits averaged" if len(facts["folds"]) > 1 else "",
        size=source.size_bytes / 1e6,
        channels=", ".join(found.channels),
        spacing=" x ".join(f"{mm:g}" for mm in found.spacing_mm),
        patch=" x ".join(map(str, found.patch_size)),
        mirroring=_mirroring(request, source),
        **{key: facts[key] for key in ("dataset", "plans", "trainer")},
    )


def _mirroring(request: Request, source: Source) -> str:
    allowed, mirror = source.facts["mirror_axes"], source.mirror_axes(request)
    if mirror:
        return (
            f"on, axes {', '.join(map(str, mirror))} as the checkpoint allows; the network runs"
            f" {2 ** len(mirror)} times a tile. `--mirroring none` takes 1/{2 ** len(mirror)} of"
            " the time."
        )
    if allowed:
        return (
            f"off by choice, where the checkpoint allows axes {', '.join(map(str, allowed))};"
            f" nnU-Net's own default would take {2 ** len(allowed)} times the time."
        )
    return "off: the checkpoint allows none."


def _first(request: Request, source: Source) -> str:
    if request.totalsegmentator is None:
        return ""
    return _TOTALSEGMENTATOR.format(
        how={1: "linear", 3: "cubic"}[request.totalsegmentator],
        spacing=" x ".join(f"{mm:g}" for mm in source.found.spacing_mm),
        step=TOTALSEGMENTATOR_STEP,
    )
