"""The project's own recipe: phantoms in, a model package out. The only room with torch.

In: a seed and a time budget. Out: `model_repo/abdomen15-phantom/1` after
``python -m viscera.training --seed 1 --repo model_repo``.
Fails: `ModelRefused` when the exported network does not answer as the trained one.

Needs the extra ``train``. With ``--steps`` instead of ``--minutes`` a run is reproducible: same
seed, steps and torch version give the same weights.
"""
