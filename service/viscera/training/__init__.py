"""The project's own recipes: phantoms or labelled volumes in, a model package out.

In: a seed and a time budget, and for the recipe ``reference`` a folder of labelled CT in nnU-Net's
form. Out: `model_repo/abdomen15-phantom/1` or `model_repo/abdomen15-reference/1`; docs/training.md
has the commands. The only room with torch.
Fails: `InvalidRequest` on a folder that cannot be used, `ModelRefused` when the exported network
does not answer as the trained one.

Needs the extra ``train``. With ``--steps`` instead of ``--minutes`` a run is reproducible: same
seed, steps, data and torch version give the same weights.

The way of a volume: `folder` (files) > `labelled` (structures) > `dome` > `draw`, which calls
`deform`, `appearance` and `scanner` > `pool` (disk, patches) > `fit` > `export` > `package`.
"""
