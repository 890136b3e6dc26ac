"""jax.experimental.sparse: BCOO, BCSR and spsolve; jax.experimental.ode; jax.scipy.sparse.linalg."""

import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jax.experimental.ode import odeint
from jax.scipy.sparse.linalg import bicgstab, cg, gmres

from tests.libraries.program import Program

PLACES = jnp.array([[0, 1], [0, 2], [1, 1], [2, 0]])
DATA, V = jnp.array([-2.0, 1.0, 0.5, 3.0]), jnp.array([1.0, 2.0, 3.0])
W = jnp.arange(9.0).reshape(3, 3)
coo = lambda data: sparse.BCOO((data, PLACES), shape=(3, 3))
csr = lambda data: sparse.BCSR.from_bcoo(coo(data).sort_indices())
ROWS = jnp.array([0, 1, 2, 3])
COLUMNS = jnp.array([0, 1, 2])
tight = {"tol": 1e-12, "atol": 0.0}
spd = lambda a: a @ a.T + 4 * jnp.eye(3)

PROGRAMS = {
    "BCOO @ vector": Program(lambda x: jnp.sum(jnp.sin(coo(x[0]) @ x[1])), (DATA, V), hessian=True),
    "BCOO.T @ vector": Program(lambda x: jnp.sum(jnp.sin(coo(x[0]).T @ x[1])), (DATA, V), hessian=True),
    "BCOO @ matrix": Program(lambda x: jnp.sum(jnp.sin(coo(x[0]) @ x[1])), (DATA, W), hessian=True),
    "matrix @ BCOO": Program(lambda x: jnp.sum(jnp.sin(x[1] @ coo(x[0]))), (DATA, W)),
    "BCOO + BCOO": Program(lambda x: jnp.sum(jnp.sin((coo(x) + coo(x**2)).todense())), DATA),
    "BCOO * matrix": Program(lambda x: jnp.sum(jnp.sin((coo(x[0]) * x[1]).todense())), (DATA, W)),
    "BCOO.todense": Program(lambda x: jnp.sum(jnp.sin(coo(x).todense()) * W), DATA, hessian=True),
    "BCOO.fromdense": Program(lambda x: jnp.sum(jnp.sin(sparse.BCOO.fromdense(x, nse=8) @ V)), W),
    "BCOO.sum": Program(lambda x: jnp.sum(jnp.sin(coo(x).sum(axis=0).todense())), DATA),
    "BCOO.sum_duplicates": Program(lambda x: jnp.sum(coo(x).sum_duplicates(nse=4).todense() ** 3), DATA),
    "BCOO slice and reshape": Program(lambda x: jnp.sum(coo(x)[:2].reshape(6).todense() ** 3), DATA),
    "BCSR @ vector": Program(lambda x: jnp.sum(jnp.sin(csr(x[0]) @ x[1])), (DATA, V), hessian=True),
    "BCSR.todense": Program(lambda x: jnp.sum(jnp.sin(csr(x).todense()) * W), DATA),
    "sparsify": Program(
        lambda x: sparse.sparsify(lambda a, v: jnp.sum(jnp.sin(a @ v)))(coo(x[0]), x[1]), (DATA, V), hessian=True
    ),
    "spsolve": Program(
        lambda x: jnp.sum(jnp.sin(sparse.linalg.spsolve(x[0][:3], COLUMNS, ROWS, x[1]))), (DATA, V), vmap=False
    ),
    "odeint": Program(
        lambda x: jnp.sum(
            odeint(lambda y, t, k: jnp.stack([y[1], -k * jnp.sin(y[0])]), x[1:], np.linspace(0, 1, 4), x[0]) ** 2
        ),
        jnp.array([9.8, 0.5, 0.1]),
        tolerance=1e-6,
    ),
    "cg": Program(lambda x: jnp.sum(jnp.sin(cg(spd(x[0]), x[1], **tight)[0])), (W / 9, V), hessian=True),
    "gmres": Program(lambda x: jnp.sum(jnp.sin(gmres(spd(x[0]), x[1], **tight)[0])), (W / 9, V)),
    "bicgstab": Program(lambda x: jnp.sum(jnp.sin(bicgstab(spd(x[0]), x[1], **tight)[0])), (W / 9, V)),
}
