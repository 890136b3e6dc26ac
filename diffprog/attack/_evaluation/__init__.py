"""How robust is a model on a data set? Attacks on every image, kept as they go, and a report.

evaluation = attack.evaluate(model, images, labels, attacks={"pgd": attack.pgd}, epsilons=[4 / 255, 8 / 255],
                             key=jax.random.key(0), directory="out/robustness")
print(evaluation)
"""

from diffprog.attack._evaluation.evaluate import evaluate
from diffprog.attack._evaluation.results import AttackRecord, Evaluation, RobustnessWarning, WorstCase

__all__ = ["AttackRecord", "Evaluation", "RobustnessWarning", "WorstCase", "evaluate"]
