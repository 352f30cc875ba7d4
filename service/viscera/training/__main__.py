"""``python -m viscera.training``: draw volumes, train, export, evaluate, write the package."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from viscera.config import LogSettings
from viscera.log import configure
from viscera.training.export import export_onnx
from viscera.training.fit import Fit
from viscera.training.folder import open_folder
from viscera.training.package import Training, build_package, require_free
from viscera.training.pool import Patches, fill_pool, kinds, training, validation
from viscera.training.recipe import RECIPES, Recipe


def main() -> None:
    """Parse the command line and run the recipe."""
    arguments = _arguments()
    configure(LogSettings(), role="training")
    torch.set_num_threads(1)  # patches run side by side instead: see Fit
    recipe = _recipe(arguments)
    if arguments.repo:
        require_free(arguments.repo, recipe.name, arguments.version)
    pool = arguments.out / f"pool-{recipe.name}-{recipe.seed}"
    fill_pool(pool, recipe, arguments.data, arguments.threads)
    fit = Fit(recipe, arguments.out)
    if not (arguments.resume and fit.resume()) and arguments.start:
        fit.start(arguments.start)
    checks = Patches(pool, recipe, validation(recipe)).fixed(recipe.seed)
    patches = Patches(pool, recipe, training(recipe))
    fit.run(patches, checks, steps=arguments.steps, minutes=arguments.minutes)
    if arguments.repo:
        made_by = Training(
            recipe=recipe,
            steps=fit.step,
            version=arguments.version,
            known=open_folder(arguments.data) if recipe.phantoms < 1 else None,
            held_out=open_folder(arguments.held_out) if arguments.held_out else None,
            kinds=kinds(pool, training(recipe)),
            started_from=fit.started_from,
            note=arguments.note,
        )
        onnx = export_onnx(fit.averaged.cpu(), recipe)
        build_package(arguments.repo, onnx, made_by, arguments.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m viscera.training", description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="phantom")
    parser.add_argument("--name", help="of the model, instead of the recipe's")
    parser.add_argument("--version", default="1", help="of the model (default: 1)")
    parser.add_argument("--data", type=Path, help="folder with imagesTr, labelsTr, dataset.json")
    parser.add_argument("--held-out", type=Path, help="such a folder of people not in --data")
    parser.add_argument("--out", type=Path, default=Path("training-out"), help="working folder")
    parser.add_argument("--minutes", type=float, default=20.0, help="wall time of the loop")
    parser.add_argument("--steps", type=int, help="instead of --minutes: reproducible")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="processes that draw volumes")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    parser.add_argument("--start", type=Path, help="package whose weights come first: NAME/VERSION")
    parser.add_argument("--learning-rate", type=float, help="at its highest; lower with --start")
    parser.add_argument("--pool", type=int, help="volumes to draw, instead of the recipe's number")
    parser.add_argument("--batch", type=int, help="patches a step: a GPU takes more than two")
    parser.add_argument("--repo", type=Path, help="model repository that gets the package")
    parser.add_argument("--note", default="", help="a sentence about this run, for the card")
    return parser.parse_args()


def _recipe(arguments: argparse.Namespace) -> Recipe:
    recipe = RECIPES[arguments.recipe]
    return replace(
        recipe,
        name=arguments.name or recipe.name,
        seed=arguments.seed,
        pool=arguments.pool or recipe.pool,
        batch=arguments.batch or recipe.batch,
        learning_rate=arguments.learning_rate or recipe.learning_rate,
    )


if __name__ == "__main__":
    main()
