"""Channels and a model to a label map: prepared, run through its networks, merged.

Between `pipeline` and the rooms `volume` and `segment`; a package with parts is one model to all
others.
"""

from collections.abc import Callable, Sequence

import numpy as np

from viscera import segment, volume
from viscera.domain.arrays import Labels
from viscera.domain.models import Model
from viscera.domain.volumes import ModelInput, Volume
from viscera.metrics import Metrics
from viscera.segment import merge
from viscera.segment.engine import Engine

Report = Callable[[str, float, str], None]
"""(stage, 0..1 of it, engine): where the job is."""


def require_memory(loaded: Volume, model: Model, engines: Sequence[Engine]) -> None:
    """Refuse a volume that one of the networks has no memory for.

    Raises
    ------
    HostMemoryFull, DeviceMemoryFull
        With what is needed and what there is.
    """
    grid = volume.first_grid(loaded.geometry, model)
    for network, engine in zip(model.networks, engines, strict=True):
        segment.require_memory(network, engine, *volume.input_shape(grid, network))


def label_volumes(
    channels: Sequence[Volume],
    model: Model,
    engines: Sequence[Engine],
    metrics: Metrics,
    report: Report,
) -> Labels:
    """Return the label map on the channels' own grid.

    Parameters
    ----------
    channels
        One for each of the model's, on one grid.
    engines
        One for each of the model's networks.

    Raises
    ------
    NoModelForSeries, GeometryMismatch
        If the channels are not what the model takes.
    ModelRefused, HostMemoryFull, DeviceMemoryFull, DeviceLost
        What a network or its engine says.
    """
    report("prepare", 0.0, engines[0].name)
    geometry = channels[0].geometry
    grid = volume.first_grid(geometry, model)
    labels = np.zeros(grid.shape, np.uint8)
    on_grid: Sequence[Volume] = ()
    fed: ModelInput | None = None
    networks = model.networks
    for k, (network, engine) in enumerate(zip(networks, engines, strict=True)):
        if fed is None or not _fed_alike(networks, engines, k):
            fed = None  # there is room for one
            with metrics.stage("prepare"), segment.faults_of(engine):
                on_grid = on_grid or volume.resample_first(channels, model)
                fed = volume.prepare(on_grid, network, segment.stream_of(engine))

        def tell(done: float, k: int = k, engine: Engine = engine) -> None:
            report("segment", (k + done) / len(networks), engine.name)

        found = np.zeros_like(labels) if model.parts else labels
        with metrics.stage("segment", engine.name):
            segment.segment(
                fed.image,
                merge.claiming(network) if model.parts else network,
                engine,
                volume.to_axes(found, grid.axes, network.axes)[fed.box],
                tell,
                fed.restore_orders,
            )
        if model.parts:
            merge.merge(found, labels)
    if model.parts:
        merge.finish(labels)
    return volume.labels_back(labels, geometry, model)


def _fed_alike(networks: Sequence[Model], engines: Sequence[Engine], k: int) -> bool:
    """Whether network `k` takes what the one before it took, where that lies."""
    same_place = segment.stream_of(engines[k]) is None and segment.stream_of(engines[k - 1]) is None
    return same_place and volume.prepared_alike(networks[k - 1], networks[k])
