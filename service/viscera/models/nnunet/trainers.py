"""Trainers that change how a network is trained, not what it is nor how it is fed."""

import re

_KNOWN = re.compile(
    r"nnUNetTrainer"
    r"(_\d+epochs?)?"
    r"(_?(NoMirroring|onlyMirror01(_1500ep)?|noDummy2DDA))?"
    r"(_?(DA5|DA5ord0|DA5Segord0|DASegOrd0|NoDA|DASegOrd0_NoMirroring|DA5_10epochs))?"
    r"(_warmup|CosAnneal|Adan|Adam|VanillaAdam|AdanCosAnneal)?((1en3|3en4|1en1))?"
    r"(DiceLoss|CELoss|CELoss_5epochs|Topk10Loss|DiceTopK10Loss|DiceCELoss_noSmooth)?"
    r"(NoDeepSupervision)?"
    r"(_probabilisticOversampling(_\d+)?)?"
)


def is_known_trainer(name: str) -> bool:
    """Whether nnU-Net's own trainer `name` leaves architecture and preprocessing to the plans.

    Of those in nnU-Net 2.8.1, the batch-norm trainer and the transformers do not.
    """
    return _KNOWN.fullmatch(name) is not None
