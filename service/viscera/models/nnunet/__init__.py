"""nnU-Net v2's results folders become what a package is written from.

In: a folder with dataset.json, plans.json and ``fold_*/checkpoint_final.pth``, and what nobody can
read from it: orientation, modality, labels' codes. Out: an `Imported`: manifest, network, the
golden tile's logits as torch gave them, card.
Fails: `ModelRefused`, with what cannot be served faithfully and why.

Checkpoints are pickles of strangers: only `child`, a process of its own, opens them, with
weights_only and an allow-list. torch is imported there and nowhere else.
"""

from viscera.models.nnunet.build import GOLDEN_SEED, Imported, build
from viscera.models.nnunet.request import Request

__all__ = ["GOLDEN_SEED", "Imported", "Request", "build"]
