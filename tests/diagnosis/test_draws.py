"""Draws whose probabilities depend on an input are named; noise that a gradient goes through is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

import diffprog as dp

P = 0.3
KEYS = {
    "typed": lambda: random.key(3),
    "raw": lambda: random.PRNGKey(3),
    "rbg": lambda: random.key(3, impl="rbg"),
    "unsafe_rbg": lambda: random.key(3, impl="unsafe_rbg"),
}
SAMPLED = {
    "bernoulli": lambda key, p: jnp.where(random.bernoulli(key, p, (20,)), p**2, p),
    "bernoulli alone": lambda key, p: random.bernoulli(key, p) * 1.0,
    "categorical": lambda key, p: jnp.arange(3.0)[random.categorical(key, jnp.log(jnp.stack([p, 0.5, 1 - p])))] * p,
    "poisson": lambda key, p: p * random.poisson(key, p),
    "large poisson": lambda key, p: p * random.poisson(key, 60 * p),
    "binomial": lambda key, p: random.binomial(key, 30.0, p) * p,
    "choice": lambda key, p: p * random.choice(key, 3, p=jnp.stack([p, 0.5, 0.5 - p])),
    "choice of all": lambda key, p: jnp.sum(
        p * jnp.arange(3) * random.choice(key, 3, (3,), False, p=jnp.stack([p, 0.5, 0.5 - p]))
    ),
    "geometric": lambda key, p: random.geometric(key, p) + p,
    "multinomial": lambda key, p: jnp.sum(random.multinomial(key, 9, jnp.stack([p, 1 - p])) * jnp.array([p, 2.0])),
    "uniform": lambda key, p: jnp.where(random.uniform(key, (5,)) < p, p, -p),
    "uniform above": lambda key, p: (p > random.uniform(key)) * p + p,
    "exponential": lambda key, p: p * (random.exponential(key) * p > 1.0),
    "gumbel": lambda key, p: p * jnp.argmax(random.gumbel(key, (4,)) + p * jnp.arange(4.0)),
    "logistic": lambda key, p: jnp.where(p + random.logistic(key) > 0, p, 1.0),
    "normal": lambda key, p: p * jnp.floor(3 * p + random.normal(key)),
    "rounded": lambda key, p: jnp.round(p * random.normal(key, (3,))) * p,
    "wald": lambda key, p: random.wald(key, p),
    "argsort": lambda key, p: p * jnp.argsort(p * jnp.arange(4) + random.gumbel(key, (4,)))[0],
    "searchsorted": lambda key, p: p * jnp.searchsorted(jnp.stack([p, 0.5, 1.0]), random.uniform(key)),
}
SMOOTH = {
    "normal": lambda key, p: p * random.normal(key) + p,
    "gamma": lambda key, p: random.gamma(key, p),
    "beta": lambda key, p: random.beta(key, p, 2.0),
    "dirichlet": lambda key, p: random.dirichlet(key, jnp.stack([p, 1.0]))[0],
    "exponential": lambda key, p: random.exponential(key) / p,
    "uniform": lambda key, p: random.uniform(key, minval=p, maxval=2.0),
    "laplace": lambda key, p: p * random.laplace(key),
    "cauchy": lambda key, p: p + random.cauchy(key),
    "t": lambda key, p: random.t(key, 5 + p),
    "truncated_normal": lambda key, p: random.truncated_normal(key, -p, p),
    "triangular": lambda key, p: random.triangular(key, 0.0, p, 1.0, (4,)),
    "weibull_min": lambda key, p: random.weibull_min(key, p, 2.0),
    "rademacher": lambda key, p: p * random.rademacher(key, (3,)),
    "permutation": lambda key, p: random.permutation(key, p * jnp.arange(4.0)) * jnp.arange(4),
    "choice of values": lambda key, p: random.choice(key, p * jnp.arange(4.0)),
    "dropout": lambda key, p: jnp.where(random.bernoulli(key, 0.8, (9,)), jnp.sin(p * jnp.arange(9)) / 0.8, 0.0),
    "activations after dropout": lambda key, p: jax.nn.leaky_relu(
        jax.nn.relu(random.bernoulli(key, 0.8, (9,)) * (p - jnp.arange(9) / 9)) - 0.1
    ),
    "where after noise": lambda key, p: jnp.where((x := p * random.normal(key, (5,))) > 0, x, 0.1 * x),
    "max pooling by argmax": lambda key, p: (x := p * random.normal(key, (5,)))[jnp.argmax(x)],
    "sorted noise": lambda key, p: jnp.sort(p * random.normal(key, (5,))) * jnp.arange(5),
    "clipped noise": lambda key, p: jnp.clip(p + random.normal(key, (5,)), -0.5, 0.5),
    "fractional part": lambda key, p: jnp.abs((x := 3 * p + random.uniform(key, (5,))) - jnp.round(x)),
    "gumbel softmax": lambda key, p: jax.nn.softmax(random.gumbel(key, (3,)) + p * jnp.arange(3)) * jnp.arange(3),
    "straight through": lambda key, p: (
        (s := jax.nn.sigmoid(p + random.logistic(key))) + jax.lax.stop_gradient((s > 0.5) - s)
    ),
    "score function": lambda key, p: jnp.log(jnp.where(random.bernoulli(key, jax.lax.stop_gradient(p)), p, 1 - p)),
    "unused draw": lambda key, p: (random.bernoulli(key, p), p)[1],
}
WRAPPED = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: lambda p: jnp.sum(jax.vmap(f)(jnp.stack([p, p]))),
    "scan": lambda f: lambda p: jax.lax.scan(lambda c, _: (c + jnp.sum(f(p)), None), 0.0, None, length=2)[0],
    "cond": lambda f: lambda p: jax.lax.cond(p > 0, lambda p: jnp.sum(f(p)) * 1.0, lambda p: p, p),
    "checkpoint": jax.checkpoint,
}


def drawn(fun, *args):
    return [finding for finding in dp.diagnose(fun)(*args).findings if finding.kind == "draw"]


@pytest.mark.parametrize("name", SAMPLED)
def test_a_draw_is_named(name):
    key, sample = KEYS["typed"](), SAMPLED[name]
    (finding,) = drawn(lambda p: jnp.sum(sample(key, p)), P)
    sampler = {"bernoulli alone": "bernoulli", "large poisson": "poisson", "choice of all": "choice"}.get(name, name)
    sampler = {"uniform above": "uniform", "rounded": "normal", "argsort": "gumbel"}.get(sampler, sampler)
    sampler = {"searchsorted": "uniform"}.get(sampler, sampler)
    assert f"jax.random.{sampler}" in finding.cause, str(finding)
    assert finding.source.file == __file__ and "random." in finding.source.text, str(finding)
    assert "not of the expectation" in finding.title and "depend on p" in finding.details[1]


@pytest.mark.parametrize("name", SMOOTH)
def test_what_a_gradient_goes_through_is_quiet(name):
    key = KEYS["typed"]()
    assert drawn(lambda p: jnp.sum(SMOOTH[name](key, p)), P) == []


@pytest.mark.parametrize("way, key", [*((way, "typed") for way in WRAPPED), *(("jit", key) for key in KEYS)])
@pytest.mark.parametrize("name", ["bernoulli", "uniform"])
def test_in_every_transformation_and_of_every_key(name, key, way):
    key = KEYS[key]()
    (finding,) = drawn(WRAPPED[way](lambda p: jnp.sum(SAMPLED[name](key, p))), P)
    assert f"jax.random.{name}" in finding.cause and finding.source.file == __file__


def test_the_expectation_by_the_advice():
    """What is said of the example in the documentation: 13.4 in place of 17.6."""
    loss = lambda draw, p: jnp.sum(jnp.where(draw, p**2, p))
    sample = lambda key, p: loss(random.bernoulli(key, p, (20,)), p)
    keys = random.split(random.key(0), 4000)
    np.testing.assert_allclose(jnp.mean(jax.vmap(lambda key: dp.grad(sample, 1)(key, P))(keys)), 17.6, rtol=0.02)

    def surrogate(key, p):
        draw = random.bernoulli(key, jax.lax.stop_gradient(p), (20,))
        terms = jnp.where(draw, p**2, p)
        return jnp.sum(terms + jnp.log(jnp.where(draw, p, 1 - p)) * jax.lax.stop_gradient(terms))

    np.testing.assert_allclose(jnp.mean(jax.vmap(lambda key: dp.grad(surrogate, 1)(key, P))(keys)), 13.4, rtol=0.02)
    assert drawn(lambda p: surrogate(keys[0], p), P) == []
    (finding,) = drawn(lambda p: sample(keys[0], p), P)
    assert "stop_gradient" in finding.fix
