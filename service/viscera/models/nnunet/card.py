"""The model card: where the weights came from, how they are run, what was not measured."""

from typing import Any

from viscera.models.nnunet.labels import LabelTables
from viscera.models.nnunet.plans import Configuration
from viscera.models.nnunet.request import Request

_CARD = """# {name}/{version}

Imported from nnU-Net v2: {dataset}, {plans}, trainer {trainer}, configuration {configuration}.
NOT FOR CLINICAL USE: nothing was validated here.

- **Networks**: {network}, folds {folds} ({checkpoint}){ensemble}; {size:.1f} MB of float32.
- **Input**: channels {channels}; spacing {spacing} mm, patch {patch}, axes after nnU-Net's
  transposition.
- **Mirroring**: {mirroring}
- **Labels reported**: {labels}.
- **Licence**: {licence}.
- **Checked at import**: every engine of the machine against torch's own logits on one tile.
- **Accuracy**: not measured here.
"""


def card(
    request: Request,
    found: Configuration,
    tables: LabelTables,
    facts: dict[str, Any],
    mirror: list[int],
    size_bytes: int,
) -> str:
    """Return the card as Markdown."""
    named = (label if isinstance(label, str) else label["name"] for label in tables.labels)
    return _CARD.format(
        name=request.name,
        version=request.version,
        configuration=found.name,
        network=found.network,
        folds=", ".join(facts["folds"]),
        checkpoint=request.checkpoint,
        ensemble=", their logits averaged" if len(facts["folds"]) > 1 else "",
        size=size_bytes / 1e6,
        channels=", ".join(found.channels),
        spacing=" x ".join(f"{mm:g}" for mm in found.spacing_mm),
        patch=" x ".join(map(str, found.patch_size)),
        mirroring=_mirroring(request, facts, mirror),
        labels=", ".join(named),
        licence=request.licence,
        **{key: facts[key] for key in ("dataset", "plans", "trainer")},
    )


def _mirroring(request: Request, facts: dict[str, Any], mirror: list[int]) -> str:
    allowed = facts["mirror_axes"]
    if mirror:
        return (
            f"on, axes {', '.join(map(str, mirror))} as the checkpoint allows; the network runs"
            f" {2 ** len(mirror)} times a tile. `--mirroring none` takes 1/{2 ** len(mirror)} of"
            " the time."
        )
    if allowed and not request.mirroring:
        return (
            f"off by choice, where the checkpoint allows axes {', '.join(map(str, allowed))};"
            f" nnU-Net's own default would take {2 ** len(allowed)} times the time."
        )
    return "off: the checkpoint allows none."
