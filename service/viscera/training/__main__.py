"""``python -m viscera.training``: draw phantoms, train, export, evaluate, write the package."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from viscera.config import LogSettings
from viscera.log import configure
from viscera.training.export import export_onnx
from viscera.training.fit import Fit
from viscera.training.package import build_package
from viscera.training.pool import Patches, fill_pool
from viscera.training.recipe import Recipe


def main() -> None:
    """Parse the command line and run the recipe."""
    parser = argparse.ArgumentParser(prog="python -m viscera.training", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training-out"), help="working folder")
    parser.add_argument("--minutes", type=float, default=20.0, help="wall time of the loop")
    parser.add_argument("--steps", type=int, help="instead of --minutes: reproducible")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="processes that draw phantoms")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    parser.add_argument("--pool", type=int, default=Recipe().pool, help="phantoms to draw")
    parser.add_argument("--repo", type=Path, help="model repository that gets the package")
    arguments = parser.parse_args()

    configure(LogSettings(), role="training")
    torch.set_num_threads(1)  # patches run side by side instead: see Fit
    recipe = replace(Recipe(), seed=arguments.seed, pool=arguments.pool)
    pool = arguments.out / f"pool-{arguments.seed}"
    fill_pool(pool, recipe, arguments.threads)
    fit = Fit(recipe, arguments.out)
    if arguments.resume:
        fit.resume()
    fit.run(Patches(pool, recipe), steps=arguments.steps, minutes=arguments.minutes)
    if arguments.repo:
        onnx = export_onnx(fit.averaged, recipe)
        build_package(arguments.repo, onnx, recipe, fit.step, arguments.out)


if __name__ == "__main__":
    main()
