"""Feature visualization: draw what the units of a network respond to.

```python
render(model, channel("blocks.8", 28), key=jax.random.key(0)).images[0]
```

The everyday functions are here. Everything to combine with them has a namespace of its own: `objectives`, `penalties`,
`parameterizations`, `transforms`, `evaluation` and `gallery`.
"""

from diffprog.visualize import evaluation, gallery, objectives, parameterizations, penalties, transforms
from diffprog.visualize._activations.atlas import Atlas, activation_atlas
from diffprog.visualize._activations.grid import Grid, activation_grid
from diffprog.visualize._deepdream.dream import Dream, dream
from diffprog.visualize._deepdream.video import dream_video
from diffprog.visualize._rendering.recipes import RECIPES, Recipe, accentuate, recipe
from diffprog.visualize._rendering.render import Rendering, render
from diffprog.visualize._rendering.render_all import render_all
from diffprog.visualize.evaluation import DatasetExamples, Scores, score, top_activating_crops
from diffprog.visualize.objectives import Objective, channel, layer, logit, neuron, objective
from diffprog.visualize.parameterizations import Parameterization, fourier, pixels
from diffprog.visualize.transforms import Transform

__all__ = [
    "RECIPES",
    "Atlas",
    "DatasetExamples",
    "Dream",
    "Grid",
    "Objective",
    "Parameterization",
    "Recipe",
    "Rendering",
    "Scores",
    "Transform",
    "accentuate",
    "activation_atlas",
    "activation_grid",
    "channel",
    "dream",
    "dream_video",
    "evaluation",
    "fourier",
    "gallery",
    "layer",
    "logit",
    "neuron",
    "objective",
    "objectives",
    "parameterizations",
    "penalties",
    "pixels",
    "recipe",
    "render",
    "render_all",
    "score",
    "top_activating_crops",
    "transforms",
]
