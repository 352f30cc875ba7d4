"""What a manifest's scheme does to intensities: numbers that every kernel takes."""

import math

import numpy as np

from viscera.domain.arrays import Mask
from viscera.domain.models import Normalisation, NormalisationScheme
from viscera.volume.sampling import Scaling

_MIN_SD = 1e-8
"""nnU-Net's floor, for a volume of one single intensity."""
_MEASURED = (NormalisationScheme.ZSCORE, NormalisationScheme.MINMAX)


def is_measured(normalisation: Normalisation) -> bool:
    """Whether `scaling_of` looks at the voxels."""
    return normalisation.scheme in _MEASURED


def scaling_of(
    normalisation: Normalisation, voxels: np.ndarray, mask: Mask | None = None
) -> Scaling:
    """Return what `normalisation` means for `voxels`, whose statistics some schemes need.

    Parameters
    ----------
    mask
        Of `voxels`' shape: where z-scoring counts. None: everywhere.
    """
    match normalisation.scheme:
        case NormalisationScheme.NONE:
            return Scaling()
        case NormalisationScheme.CT:
            return Scaling(
                lower=normalisation.lower,
                upper=normalisation.upper,
                mean=normalisation.mean,
                sd=max(normalisation.sd, _MIN_SD),
            )
        case NormalisationScheme.RESCALE_01:
            return Scaling(
                lower=normalisation.lower,
                upper=normalisation.upper,
                mean=normalisation.lower,
                sd=normalisation.upper - normalisation.lower,
            )
        case NormalisationScheme.ZSCORE:
            mean, sd = _mean_sd(voxels, mask)
            return Scaling(mean=mean, sd=max(sd, _MIN_SD))
        case NormalisationScheme.MINMAX:
            least, most = float(voxels.min()), float(voxels.max())
            return Scaling(mean=least, sd=max(most - least, _MIN_SD))


def _mean_sd(voxels: np.ndarray, mask: Mask | None) -> tuple[float, float]:
    """Return mean and population SD in float64, a plane at a time."""
    inside = [True] * len(voxels) if mask is None else mask
    count = voxels.size if mask is None else max(1, int(np.count_nonzero(mask)))
    planes = list(zip(voxels, inside, strict=True))
    mean = sum(float(p.sum(dtype=np.float64, where=m)) for p, m in planes) / count
    squares = sum(float(np.square(p - mean, dtype=np.float64).sum(where=m)) for p, m in planes)
    return mean, math.sqrt(squares / count)
