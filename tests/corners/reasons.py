"""Why a derivative that exists is not ours, for each function where that is so."""

_WRITTEN_OUT = "JAX writes the function out into the program around it"
_VECTORS = "second derivatives at equal values: eigh and svd are not told how the loss weighs their vectors; NaN"
_GENERAL = "equal eigenvalues: at second order, and at a block of Jordan, their derivatives divide by differences; NaN"

REASONS = {
    "numpy.sinc": "JAX computes sin(x) / x beside 0, which cancels; its own rule is for 0 alone",
    "scipy.special.beta": f"with a negative argument: {_WRITTEN_OUT}, with branches that are NaN",
    "scipy.special.boxcox": f"{_WRITTEN_OUT}: log(x), which does not know the power, at power 0, and log(0) at 0",
    "scipy.special.boxcox1p": f"{_WRITTEN_OUT}: as boxcox",
    "scipy.special.expn, n=0": "JAX 0.10 calls expn(-1, x), which is NaN; right since JAX 0.12",
    "scipy.special.hyp1f1": "the series that JAX sums for the slopes in a and b ends at once at x = 0",
    "scipy.special.logsumexp": f"{_WRITTEN_OUT}: infinity less infinity",
    "scipy.special.sph_harm_y, n=1, m=0": "the recurrence that JAX differentiates divides by sin(theta)",
    "scipy.stats.norm.pdf": f"{_WRITTEN_OUT}: exp of a logarithm with infinite slope, 0 times infinity",
    "scipy.stats.gamma.pdf": f"{_WRITTEN_OUT}: exp of a logarithm with infinite slope, 0 times infinity",
    "scipy.stats.binom.logpmf": "JAX puts the number 0 where the outcome is certain, which does not move with p",
    "scipy.stats.laplace.cdf": f"{_WRITTEN_OUT}: the piece not taken overflows; mended in JAX 0.12",
    "scipy.stats.cauchy.logpdf": f"{_WRITTEN_OUT}: infinity over infinity",
    "numpy.linalg.lstsq": f"at equal singular values: {_WRITTEN_OUT}, through svd; NaN",
    "numpy.linalg.svd, U V^H": f"{_VECTORS}; jax.scipy.linalg.polar is right",
    "scipy.linalg.svd, full, U V^H": f"{_VECTORS}; jax.scipy.linalg.polar is right",
    "numpy.linalg.eigh, largest two's projector": _VECTORS,
    "numpy.linalg.eigh, V exp(w) V^H": "at equal values: eigh is told the slopes of the loss in the values only; NaN",
    "numpy.linalg.eigvals, sum of exp w": _GENERAL,
    "numpy.linalg.eig, sum of w^2": _GENERAL,
    "scipy.linalg.schur": "at equal eigenvalues the form depends on the direction from which the matrix comes; NaN",
    "numpy.linalg.vector_norm, 3": "powers of such sizes leave the range of float64",
    "scipy.linalg.funm, exp": f"at equal eigenvalues: {_WRITTEN_OUT}, without the function's own slopes; NaN",
}
