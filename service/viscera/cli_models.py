"""`viscera model ...`: what the command line does with the model repository."""

import argparse
from pathlib import Path

from viscera.cli_parts import Commands, nothing
from viscera.config import Settings
from viscera.domain.models import Model
from viscera.errors import ServiceError


def add(commands: Commands) -> None:
    """Add them to the parser."""
    model = commands.add_parser("model", help="look at models, bring them in, put them in force")
    actions = model.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list packages")
    listing.set_defaults(command=_model_list)
    check = actions.add_parser("check", help="verify digests and the golden tile on this machine")
    check.add_argument("name", nargs="?", default="", metavar="NAME[/VERSION]", help="default: all")
    check.set_defaults(command=_model_check)
    show = actions.add_parser("show", help="print a package's manifest and model card")
    show.add_argument("name", metavar="NAME[/VERSION]")
    show.set_defaults(command=_model_show)
    activate = actions.add_parser(
        "activate",
        help="let a version serve under its bare name",
        description="Segments a check volume first, and refuses a model whose liver is not on the "
        "right of its spleen; without them, kidneys or adrenals. Workers take it up with the next "
        "series.",
    )
    activate.add_argument("name", metavar="NAME/VERSION")
    activate.add_argument("--volume", type=Path, metavar="SCAN", help="default: a phantom CT")
    activate.add_argument("--modality", choices=("CT", "MR"), default="CT", help="of SCAN")
    activate.add_argument("--unchecked", action="store_true", help="segment nothing")
    activate.set_defaults(command=_model_activate)
    rollback = actions.add_parser("rollback", help="let the version before serve again")
    rollback.add_argument("name", metavar="NAME")
    rollback.set_defaults(command=_model_rollback)
    _add_import(actions)


def _add_import(actions: Commands) -> None:
    importing = actions.add_parser("import", help="make a package of another program's network")
    kinds = importing.add_subparsers(required=True, metavar="KIND")
    _add_nnunet(kinds)
    _add_onnx(kinds)


def _add_nnunet(kinds: Commands) -> None:
    nnunet = kinds.add_parser(
        "nnunet",
        help="nnU-Net v2's results folder (needs the extra `import`)",
        description="Reads dataset.json, plans.json and the checkpoints of one trained model; "
        "several folds become one network that answers their mean.",
    )
    nnunet.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="RESULTS_FOLDER",
        help="TRAINER__PLANS__CONFIG; several share one task: where two claim a voxel, the later"
        " one has it",
    )
    nnunet.add_argument("--name", required=True, metavar="NAME", help="of the package")
    nnunet.add_argument("--version", required=True, metavar="VERSION", help="of the package")
    nnunet.add_argument(
        "--folds", default="", metavar="0,1|all", help="default: every numbered one"
    )
    nnunet.add_argument("--checkpoint", default="checkpoint_final.pth", metavar="NAME")
    nnunet.add_argument(
        "--labels",
        metavar="MAP.toml|totalsegmentator",
        help="what the labels are; default: AMOS's names are known",
    )
    nnunet.add_argument(
        "--orientation",
        metavar="RAS|LPS|...",
        help="of the training images as stored; or --example, where the reader does not turn them",
    )
    nnunet.add_argument("--example", type=Path, metavar="IMAGE", help="a training image")
    nnunet.add_argument(
        "--mirroring",
        choices=("none", "checkpoint"),
        default="checkpoint",
        help="checkpoint (default): as nnU-Net does, up to 8 times the time; none: one run a tile",
    )
    nnunet.add_argument(
        "--modality", choices=("CT", "MR"), action="append", default=[], help="may be given twice"
    )
    nnunet.add_argument(
        "--totalsegmentator",
        type=int,
        choices=(1, 3),
        nargs="?",
        const=3,
        metavar="1|3",
        help="TotalSegmentator's own answer: its resampling before nnU-Net (3, cubic, up to its"
        " version 2.15; 1, linear, its default since), steps of 0.8, nearest labels back",
    )
    nnunet.add_argument(
        "--trust-trainer", action="store_true", help="a trainer that is none of nnU-Net's own"
    )
    nnunet.add_argument("--licence", metavar="TEXT", help="of the weights, for the model card")
    nnunet.add_argument("--model-repo", type=Path, metavar="DIR", help="default: settings")
    nnunet.set_defaults(command=_model_import_nnunet)


def _add_onnx(kinds: Commands) -> None:
    onnx = kinds.add_parser("onnx", help="any network that is an ONNX file already")
    onnx.add_argument("file", type=Path, metavar="FILE", help="tiles in, logits out, float32")
    onnx.add_argument(
        "--manifest",
        type=Path,
        required=True,
        metavar="M.toml",
        help="as `viscera model show` prints one, without [files]",
    )
    onnx.add_argument("--model-repo", type=Path, metavar="DIR", help="default: settings")
    onnx.set_defaults(command=_model_import_onnx)


def with_models(settings: Settings, **changed: object) -> Settings:
    """Return the settings with what options say of models; None says nothing."""
    update = {key: value for key, value in changed.items() if value is not None}
    return settings.model_copy(update={"models": settings.models.model_copy(update=update)})


# Commands import what they need when they run: `viscera --help` stays quick.


def _model_list(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import models
    from viscera.models.active import active_version

    names = models.package_names(settings.models.repo)
    for name in names:
        try:
            model = models.load_model(settings.models.repo, name)
        except ServiceError as error:
            print(f"{name:<28}{error.reason}; `viscera model check {name}` says why")
            continue
        notes = ["default"] if settings.models.default in (name, model.name) else []
        if active_version(model.folder.parent) == model.version:
            notes.append("active")
        note = f"  ({', '.join(notes)})" if notes else ""
        print(
            f"{name:<28}{model.grade:<15}{'+'.join(model.modalities):<7}"
            f"{len(model.labels)} labels  {model.digest[:12]}{note}"
        )
    return 0 if names else nothing(f"no model package in {settings.models.repo}")


def _model_check(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import models, offline

    repo = settings.models.repo
    names = (options.name,) if options.name else models.package_names(repo)
    if not names:
        return nothing(f"no model package in {repo}")
    good = True
    for check in offline.check_models(settings, names):
        print(f"{check.name}: {check.text}")
        good &= check.good
    return 0 if good else 1


def _model_import_nnunet(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import importing
    from viscera.models.nnunet import Request

    request = Request(
        folder=options.folders[0],
        further=tuple(options.folders[1:]),
        name=options.name,
        version=options.version,
        folds=tuple(part.strip() for part in options.folds.split(",") if part.strip()),
        checkpoint=options.checkpoint,
        labels=options.labels,
        orientation=options.orientation,
        example=options.example,
        mirroring=options.mirroring == "checkpoint",
        modalities=tuple(options.modality),
        trust_trainer=options.trust_trainer,
        totalsegmentator=options.totalsegmentator,
        **({"licence": options.licence} if options.licence else {}),
    )
    model = importing.import_nnunet(request, with_models(settings, repo=options.model_repo))
    print(f"{model.full_name} in {model.folder}: engines answer as torch does{_half(model)}")
    return 0


def _model_import_onnx(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import importing

    settings = with_models(settings, repo=options.model_repo)
    model = importing.import_onnx(options.file, options.manifest, settings)
    print(f"{model.full_name} in {model.folder}: engines answer as ONNX Runtime does{_half(model)}")
    return 0


def _half(model: Model) -> str:
    if all(network.half for network in model.networks):
        return ", in half precision too"
    return "; half precision was left out, half_left_out above says why"


def _model_show(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import models

    model = models.load_model(settings.models.repo, options.name)
    for name in ("manifest.toml", "MODEL_CARD.md"):
        print((model.folder / name).read_text(encoding="utf-8"))
    return 0


def _model_activate(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import activation

    model, said = activation.activate(
        settings,
        options.name,
        check_volume=options.volume,
        modality=options.modality,
        unchecked=options.unchecked,
    )
    print(f"{model.full_name} serves as {model.name}; it {said}")
    return 0


def _model_rollback(options: argparse.Namespace, settings: Settings) -> int:
    from viscera import activation

    model = activation.rollback(settings, options.name)
    print(f"{model.full_name} serves as {model.name} again")
    return 0
