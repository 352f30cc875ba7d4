"""What shares a SeriesInstanceUID: phases, echoes, acquisitions, localisers, strangers."""

from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from oddities.case import SHAPE, Case, Files, change, datasets, plain, scanned, slices, values
from oddities.judge import Scanned

GROUP = "Several things in one series"


def _volumes(
    count: int, changes: Callable[[int], dict[str, object]], cut: int | None = None
) -> Files:
    """Return `count` volumes at the same places; `cut` is how many slices the last one has."""
    made: list[Dataset] = []
    truth = []
    for n in range(count):
        hu = values(seed=n)
        s = slices(hu)
        keep = range(len(hu) if cut is None or n < count - 1 else cut)
        volume = datasets(s, first_number=1 + 100 * n, **changes(n))
        made += [volume[k] for k in keep]
        if len(keep) == len(hu):
            truth.append(scanned(s, hu, keep=keep))
    # As scanners send them: place by place, not volume by volume.
    made.sort(key=lambda ds: (float(ds.ImagePositionPatient[2]), ds.InstanceNumber))
    return Files(datasets=made, scanned=tuple(truth))


def _mr(**changes: object) -> dict[str, object]:
    return {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleType": "US", **changes}


_DIXON = ("IN_PHASE", "OPP_PHASE", "WATER", "FAT")
_DIRECTIONS = (None, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])


def _dixon(n: int) -> dict[str, object]:
    made = "ORIGINAL" if n < 2 else "DERIVED"
    return _mr(ImageType=[made, "PRIMARY", "DIXON", _DIXON[n]])


def _diffusion(n: int) -> dict[str, object]:
    """b = 0, and b = 800 in three directions."""
    direction = {"DiffusionGradientOrientation": _DIRECTIONS[n]} if n else {}
    return _mr(DiffusionBValue=800.0 * bool(n), **direction)


def _many_acquisitions() -> Files:
    """As a step-and-shoot scan: another AcquisitionNumber for every other slice."""
    files = plain()
    for k, ds in enumerate(files.datasets):
        ds.AcquisitionNumber = k // 2
    return files


def _with(extra: tuple[Sequence[Dataset], Scanned]) -> Files:
    """Return a proper series with something beside it that may be built or left out."""
    files = plain()
    return Files(datasets=[*extra[0], *files.datasets], scanned=(*files.scanned, extra[1]))


def _localiser() -> tuple[Sequence[Dataset], Scanned]:
    hu = values(seed=5)[:1]
    coronal = (1, 0, 0, 0, 0, -1)
    s = slices(hu, orientation=coronal, spacing=(2.0, 2.0), first_position=(-20, 0, 40))
    made = datasets(s, 901, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], AcquisitionNumber=0)
    return made, scanned(s, hu, optional=True)


def _projections() -> tuple[Sequence[Dataset], Scanned]:
    """Maximum intensity projections at the slices' own places."""
    hu = values(seed=6)
    s = slices(hu)
    made = datasets(s, 801, ImageType=["DERIVED", "SECONDARY", "MIP"])
    return made, scanned(s, hu, optional=True)


def _coronal_reformats() -> tuple[Sequence[Dataset], Scanned]:
    hu = values(seed=7)
    coronal = (1, 0, 0, 0, 0, -1)
    s = slices(hu, orientation=coronal, first_position=(-50, -40, 40), step=(0, 2.0, 0))
    made = datasets(s, 701, ImageType=["DERIVED", "SECONDARY", "MPR"])
    return made, scanned(s, hu, optional=True)


def _axial_and_sagittal() -> Files:
    files = plain()
    hu = values(seed=2)
    s = slices(hu, orientation=(0, 1, 0, 0, 0, -1), step=(2.5, 0, 0))
    return Files(
        datasets=[*files.datasets, *datasets(s, 101)], scanned=(*files.scanned, scanned(s, hu))
    )


def _two_matrices() -> Files:
    files = plain()
    hu = values(2, (SHAPE[0], 16, 18))
    s = slices(hu, first_position=(-50, -40, 110))
    return Files(
        datasets=[*files.datasets, *datasets(s, 101)], scanned=(*files.scanned, scanned(s, hu))
    )


def _stranger(what: str, **changes: object) -> Files:
    files = plain()
    change(files.datasets[4], **changes)
    return Files(datasets=files.datasets, scanned=files.scanned, never=what)


def _same_uid_other_bytes() -> Files:
    files = plain()
    other = datasets(slices(values(seed=9)))[4]
    return Files(
        datasets=[*files.datasets, other],
        scanned=files.scanned,
        never="two versions of one instance",
    )


def _sent_twice() -> Files:
    files = plain()
    return Files(datasets=[*files.datasets, *files.datasets[:5]], scanned=files.scanned)


def _case(
    name: str, make: Callable[[], Files], *, usable: bool = True, names: tuple[str, ...] = ()
) -> Case:
    return Case(group=GROUP, name=name, make=make, usable=usable, names=names)


CASES = (
    _case(
        "two phases, told apart by TemporalPositionIdentifier",
        lambda: _volumes(2, lambda n: {"TemporalPositionIdentifier": n + 1}),
    ),
    _case(
        "two phases, told apart by AcquisitionNumber",
        lambda: _volumes(2, lambda n: {"AcquisitionNumber": n + 1}),
    ),
    _case(
        "three MR echoes",
        lambda: _volumes(3, lambda n: _mr(EchoNumbers=n + 1, EchoTime=str(2.5 * (n + 1)))),
    ),
    _case(
        "two b-values of an MR diffusion scan",
        lambda: _volumes(2, lambda n: _mr(DiffusionBValue=800.0 * n)),
    ),
    _case("b = 0 and b = 800 in three directions", lambda: _volumes(4, _diffusion)),
    _case("Dixon: four contrasts, told apart by ImageType", lambda: _volumes(4, _dixon)),
    _case(
        "three cardiac phases, told apart by TriggerTime",
        lambda: _volumes(3, lambda n: _mr(TriggerTime=str(120 * n))),
    ),
    _case("two tube voltages", lambda: _volumes(2, lambda n: {"KVP": str(80 + 60 * n)})),
    _case(
        "a subtraction beside its originals",
        lambda: _volumes(
            2, lambda n: {"ImageType": ["DERIVED", "PRIMARY", "SUBTRACT"]} if n else {}
        ),
    ),
    _case("two kernels", lambda: _volumes(2, lambda n: {"ConvolutionKernel": f"B{n + 3}0f"})),
    _case(
        "two phases that nothing tells apart",
        lambda: _volumes(2, lambda n: {}),
        usable=False,
        names=("CollidingSlices", "20 of 20", "(-50.00, -40.00, 10.00)"),
    ),
    _case(
        "a phase and half of a second one",
        lambda: _volumes(2, lambda n: {"AcquisitionNumber": n + 1}, cut=5),
    ),
    _case("five AcquisitionNumbers in one volume", _many_acquisitions),
    _case("a localiser among the slices", lambda: _with(_localiser())),
    _case("projections (MIP) at the slices' places", lambda: _with(_projections())),
    _case("coronal reformats beside the originals", lambda: _with(_coronal_reformats())),
    _case("an axial and a sagittal volume", _axial_and_sagittal),
    _case("two volumes of different matrix", _two_matrices),
    _case("the same files twice", _sent_twice),
    _case(
        "one SOP Instance UID with two contents",
        _same_uid_other_bytes,
        usable=False,
        names=("ConflictingInstance",),
    ),
    _case(
        "one slice of another patient",
        lambda: _stranger("two patients", PatientID="OTHER", PatientName="Other^Patient"),
        usable=False,
        names=("MixedSeries", "patients"),
    ),
    _case(
        "one slice of another study",
        lambda: _stranger("two studies", StudyInstanceUID="1.2.3.9"),
        usable=False,
        names=("MixedSeries", "studies"),
    ),
    _case(
        "one slice in another frame of reference",
        lambda: _stranger("two frames of reference", FrameOfReferenceUID="1.2.3.9"),
        usable=False,
        names=("MixedSeries", "frames of reference"),
    ),
)
