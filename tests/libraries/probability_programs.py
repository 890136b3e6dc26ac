"""NumPyro, BlackJAX and TensorFlow Probability on JAX: densities, transformed parameters, samplers."""

import blackjax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model
from tensorflow_probability.substrates import jax as tfp

from tests.libraries.program import Program

SCHOOLS = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
DRAWS = jnp.array([0.3, 1.2, 2.5, 0.7])


def eight_schools():
    mean = numpyro.sample("mean", dist.Normal(0, 5))
    scale = numpyro.sample("scale", dist.HalfCauchy(5))
    effects = numpyro.sample("effects", dist.Normal(mean, scale).expand([8]))
    numpyro.sample("observed", dist.Normal(effects, ERRORS), obs=SCHOOLS)


def mixture():
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    means = numpyro.sample("means", dist.Normal(0, 3).expand([3]).to_event(1))
    scale = numpyro.sample("scale", dist.LogNormal(0, 1))
    components = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(means, scale))
    numpyro.sample("observed", components.expand([8]), obs=SCHOOLS / 10)


def covariance():
    scales = numpyro.sample("scales", dist.HalfNormal(1).expand([3]).to_event(1))
    factor = numpyro.sample("factor", dist.LKJCholesky(3, 2.0))
    numpyro.sample(
        "observed", dist.MultivariateNormal(0.0, scale_tril=scales[:, None] * factor), obs=SCHOOLS[:6].reshape(2, 3)
    )


def potential(model):
    """Make NumPyro's potential energy in unconstrained parameters."""
    info = initialize_model(jr.key(0), model)
    return Program(info.potential_fn, jax.tree.map(lambda x: x.astype(jnp.float64), info.param_info.z), hessian=True)


tfd, tfb = tfp.distributions, tfp.bijectors
density = lambda make, draws=DRAWS: lambda x: jnp.sum(make(x).log_prob(draws))
positive = jnp.array([1.3, 0.7])

PROGRAMS = {
    "NumPyro: eight schools": potential(eight_schools),
    "NumPyro: mixture": potential(mixture),
    "NumPyro: LKJ covariance": potential(covariance),
    "TFP: gamma": Program(density(lambda x: tfd.Gamma(x[0], x[1])), positive, hessian=True),
    "TFP: beta": Program(density(lambda x: tfd.Beta(x[0], x[1]), DRAWS / 3), positive, hessian=True),
    "TFP: Student's t": Program(density(lambda x: tfd.StudentT(x[0] + 2, 0.0, x[1])), positive, hessian=True),
    "TFP: von Mises": Program(density(lambda x: tfd.VonMises(x[0], x[1])), positive),
    "TFP: negative binomial": Program(
        density(lambda x: tfd.NegativeBinomial(x[0], probs=x[1]), jnp.array([1.0, 4.0])), jnp.array([3.3, 0.7])
    ),
    "TFP: truncated normal": Program(density(lambda x: tfd.TruncatedNormal(x[0], x[1], 0.0, 3.0)), positive),
    "TFP: Wishart": Program(
        lambda x: tfd.WishartTriL(5.0, jnp.array([[x[0], 0.0], [0.3, x[1]]])).log_prob(jnp.eye(2) * 2 + 0.3), positive
    ),
    "TFP: Gaussian process": Program(
        lambda x: tfd.GaussianProcess(
            tfp.math.psd_kernels.ExponentiatedQuadratic(x[0], x[1]), DRAWS[:, None], observation_noise_variance=0.1
        ).log_prob(SCHOOLS[:4] / 10),
        positive,
        hessian=True,
    ),
    "TFP: a chain of bijectors": Program(
        lambda x: jnp.sum(
            tfb.Chain(
                [tfb.Softplus(), tfb.Shift(x[0]), tfb.Scale(x[1]), tfb.SinhArcsinh(jnp.float64(0.3))]
            ).forward_log_det_jacobian(DRAWS)
        ),
        positive,
        hessian=True,
    ),
    "TFP: reparameterized gamma draws": Program(
        lambda x: jnp.sum(jnp.sin(tfd.Gamma(x[0], x[1]).sample(5, seed=jr.key(0)))), positive
    ),
}


def with_gradient(gradient, fun):
    """Give `fun` the gradient that `gradient` makes, whoever differentiates it."""

    @jax.custom_vjp
    def wrapped(x):
        return fun(x)

    wrapped.defvjp(lambda x: (fun(x), x), lambda x, g: (jax.tree.map(lambda d: g * d, gradient(fun)(x)),))
    return wrapped


def numpyro_draws(gradient):
    """Draw from the eight schools by NumPyro's NUTS; briefly, as a trajectory magnifies the last bit of a gradient."""
    info = initialize_model(jr.key(0), eight_schools)
    mcmc = MCMC(
        NUTS(potential_fn=with_gradient(gradient, info.potential_fn)), num_warmup=12, num_samples=8, progress_bar=False
    )
    mcmc.run(jr.key(1), init_params=info.param_info.z)
    return mcmc.get_samples()


def blackjax_draws(gradient):
    """Draw from a curved density by BlackJAX's NUTS."""
    log_density = with_gradient(gradient, lambda x: -0.5 * x[0] ** 2 - 2 * (x[1] - x[0] ** 2) ** 2)
    sampler = blackjax.nuts(log_density, step_size=0.3, inverse_mass_matrix=jnp.ones(2))
    step = jax.jit(lambda state, key: (lambda new: (new, new.position))(sampler.step(key, state)[0]))
    return jax.lax.scan(step, sampler.init(jnp.array([0.5, 0.5])), jr.split(jr.key(2), 50))[1]


SAMPLERS = {"NumPyro: NUTS": numpyro_draws, "BlackJAX: NUTS": blackjax_draws}
