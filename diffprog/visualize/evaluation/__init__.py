"""Evaluation: is a picture any good? Measures that can be compared between recipes, units and tools.

```python
examples = top_activating_crops(model, objective, "my/photographs", size=128)
print(score(model, objective, rendering, examples, key=key, transform=transform))
```
"""

from diffprog.visualize.evaluation._dataset_examples import DatasetExamples, square_crops, top_activating_crops
from diffprog.visualize.evaluation._metrics import (
    Likeness,
    Transfer,
    along_path,
    color_distance,
    features,
    high_frequency_share,
    mean_similarity,
    path_similarity,
    robust_ratio,
    seed_stability,
    spectral_slope,
    transfer,
)
from diffprog.visualize.evaluation._scores import HEADER, Scores, first_step_at, medians, score

__all__ = [
    "HEADER",
    "DatasetExamples",
    "Likeness",
    "Scores",
    "Transfer",
    "along_path",
    "color_distance",
    "features",
    "first_step_at",
    "high_frequency_share",
    "mean_similarity",
    "medians",
    "path_similarity",
    "robust_ratio",
    "score",
    "seed_stability",
    "spectral_slope",
    "square_crops",
    "top_activating_crops",
    "transfer",
]
