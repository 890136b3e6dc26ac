"""How an attack asks the model about its points: each look is one batched question of so many passes."""

from diffprog.attack.method import View
from diffprog.optimize.engine import value_and_grad


def by_gradient(oracle, loss, states, examples, given, keys):
    """One forward and one backward pass: the value, the logits and the gradient of the value."""

    def total(points):
        values, logits = oracle.ask(points, examples, keys, loss)
        return values.sum(), (values, logits)  # a sum: no image's gradient is scaled by how many others there are

    (_, (values, logits)), gradient = value_and_grad(oracle.engine)(total, has_aux=True)(states.point)
    gradient = gradient * (examples.upper > examples.lower)
    return View(logits, values, oracle.hit(logits, examples), gradient, gradients=1)


def by_logits(oracle, loss, states, examples, given, keys):
    """One forward pass: the value and the logits."""
    values, logits = oracle.ask(states.point, examples, keys, loss)
    return View(logits, values, oracle.hit(logits, examples))
