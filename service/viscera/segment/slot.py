"""The engine that serves one model, and the better one that is being built for it."""

from collections.abc import Callable, Sequence

from viscera import log
from viscera.config import EngineSettings
from viscera.domain.models import Golden, Model
from viscera.errors import DeviceLost
from viscera.metrics import Metrics
from viscera.segment.building import BuildTurn, PlanBuild, PlanNotBuilt
from viscera.segment.driver import Gpu, probe_gpu
from viscera.segment.engine import Engine
from viscera.segment.ladder import LADDER, Rung, start_engine
from viscera.segment.tensorrt_build import BuildRequest

_log = log.get(__name__)

Build = Callable[[BuildRequest, Callable[[float], None]], PlanBuild]


class EngineSlot:
    """Holds the engine of one model; swaps it between jobs when a better one is ready.

    Parameters
    ----------
    model, golden, settings, metrics, ladder, probe
        As `ladder.start_engine` takes them, and raises what it raises.
    build
        Starts a build in a process of its own.
    turn
        Shared by slots that must not build at once: the networks of one worker.
    """

    def __init__(
        self,
        model: Model,
        golden: Golden,
        settings: EngineSettings,
        metrics: Metrics,
        ladder: Sequence[Rung] = LADDER,
        probe: Callable[[], Gpu] = probe_gpu,
        build: Build = PlanBuild,
        turn: BuildTurn | None = None,
    ) -> None:
        self._model, self._golden = model, golden
        self._settings, self._metrics = settings, metrics
        self._probe, self._start_build = probe, build
        self._turn = turn or BuildTurn()
        self._wanted: tuple[Rung, BuildRequest] | None = None
        self._building: tuple[Rung, PlanBuild] | None = None
        self._engine = start_engine(
            model, golden, settings, metrics, ladder, probe, postpone=self._postpone
        )

    def between_jobs(self) -> Engine:
        """Return the engine for the next job: the better one, if it is ready and right.

        Raises
        ------
        DeviceLost
            In strict mode, if the better one does not serve: the worker ends, and the job, which
            is not to blame, goes to the next one.
        """
        if self._building is not None and self._building[1].is_over:
            rung, build = self._building
            self._building = None
            try:
                build.require_success()
                self._swap(rung)
            except Exception as error:  # as in the ladder: the one that serves goes on
                if self._settings.strict:
                    raise DeviceLost(
                        f"engine.strict: {rung.name} was built and does not serve: {error}"
                    ) from error
                self._metrics.engine_fallbacks.labels(rung.name).inc()
                _log.warning("engine_demoted", engine=rung.name, why=str(error))
            finally:
                build.stop()
                self._turn.give_back(self)
        self._begin()
        return self._engine

    def close(self) -> None:
        """End the build and free the engine. Idempotent."""
        if self._building is not None:
            self._building[1].stop()
            self._building = None
        self._wanted = None
        self._turn.give_back(self)
        self._engine.close()

    def _swap(self, rung: Rung) -> None:
        better = start_engine(
            self._model, self._golden, self._settings, self._metrics, (rung,), self._probe
        )
        _log.info("engine_swapped", engine=better.name, before=self._engine.name)
        self._engine.close()
        self._engine = better

    def _postpone(self, rung: Rung, missing: PlanNotBuilt) -> None:
        """Build the fastest engine that has no plan yet; one is enough."""
        if self._building is None and self._wanted is None:
            self._wanted = rung, missing.request
            self._begin()

    def _begin(self) -> None:
        """Start the build that is wanted, once it is this slot's turn."""
        if self._wanted is None or not self._turn.take(self):
            return
        (rung, request), self._wanted = self._wanted, None
        _log.info("engine_building", engine=rung.name, model=self._model.full_name)
        shown = self._metrics.engine_build.labels(rung.name)
        shown.set(0)
        self._building = rung, self._start_build(request, shown.set)
