"""The project's own recipe: phantoms in, a model package out. The only room with torch.

In: a seed and a time budget. Out: `model_repo/abdomen15-phantom/1` after
``python -m viscera.training --minutes 25 --seed 1 --out training-out``.
Fails: `ModelRefused` when the exported network does not answer as the trained one.

Needs the extra ``train``. With ``--steps`` instead of ``--minutes`` a run is reproducible: same
seed, steps, threads and torch version give the same weights.
"""
