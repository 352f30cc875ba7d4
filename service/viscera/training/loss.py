"""What is minimised, with organs that a volume does not label left out of it."""

import torch
from torch.nn import functional

from viscera.training.labelled import UNSURE


def loss_of(
    logits: torch.Tensor, labels: torch.Tensor, allowed: torch.Tensor, balance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, and one minus the mean soft Dice over the labels that the patches show.

    Parameters
    ----------
    logits, labels
        (n, label, z, y, x) and (n, z, y, x); `labels` may hold `UNSURE`.
    allowed
        (n, label), boolean: what `UNSURE` may be in each patch. There, the probabilities of all
        that is allowed count as one: an organ that nobody labelled is neither right nor wrong.
    balance
        0 counts every voxel alike; 1 every label. A rare label that is never guessed has next to
        no gradient by Dice, so cross-entropy must first bring it up.

    References
    ----------
    Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ
    segmentation, Medical Image Analysis 70 (2021) 101979.
    """
    known = functional.log_softmax(logits.float(), 1)
    count = logits.shape[1]
    flat = labels.flatten()
    sizes = torch.bincount(flat, minlength=count + 1)[:count]
    weights = (sizes + 1.0) ** -balance
    at_truth = known.gather(1, labels.clamp(max=count - 1)[:, None]).flatten()
    unsure = flat == UNSURE
    if bool(unsure.any()):
        of_patch = unsure.reshape(len(labels), -1).nonzero()[:, 0]
        rows = known.movedim(1, -1).reshape(-1, count)[unsure]
        either = rows.masked_fill(~allowed[of_patch], -torch.inf).logsumexp(1)
        at_truth = at_truth.masked_scatter(unsure, either)
        flat = flat.masked_fill(unsure, 0)
        weights[0] = (sizes[0] + len(rows) + 1.0) ** -balance
    per_voxel = weights[flat]
    cross = -(per_voxel * at_truth).sum() / per_voxel.sum()
    shown = sizes > 0
    shown[0] = False
    if not bool(shown.any()):
        return cross, torch.zeros((), device=logits.device)
    shares = known.exp()
    overlap = torch.zeros(count, device=logits.device).index_add(0, flat, at_truth.exp())
    dice = (2 * overlap + 1) / (shares.sum((0, 2, 3, 4)) + sizes + 1)
    return cross, 1 - dice[shown].mean()


def allowed_of(unlabelled: list[tuple[int, ...]], count: int) -> torch.Tensor:
    """Return (n, `count`), boolean: background and each patch's unlabelled organs."""
    allowed = torch.zeros(len(unlabelled), count, dtype=torch.bool)
    allowed[:, 0] = True
    for row, organs in zip(allowed, unlabelled, strict=True):
        row[list(organs)] = True
    return allowed
