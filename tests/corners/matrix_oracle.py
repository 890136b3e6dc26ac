"""Functions of matrices in mpmath: what JAX's linear algebra is held against.

Arguments and results are mpmath's matrices, vectors are columns. Results that are unique up to signs or phases alone
are normalized, as the rows of `tests.corners.linear_algebra` normalize JAX's.
"""

from mpmath import mp


def adjoint(a):
    return a.transpose_conj()


def hermitian(a):
    """Take the mean of a matrix and its adjoint."""
    return (a + adjoint(a)) / 2


def from_lower(a):
    """Take the Hermitian matrix of which this is the lower triangle."""
    return entries(a.rows, a.cols, lambda i, j: a[i, j] if i > j else mp.conj(a[j, i]) if i < j else mp.re(a[i, i]))


def entries(m, n, at):
    """Make a matrix of a function of row and column."""
    return mp.matrix([[at(i, j) for j in range(n)] for i in range(m)])


def triangle(a, low=True, unit=False):
    keep = (lambda i, j: i >= j) if low else (lambda i, j: i <= j)
    return entries(a.rows, a.cols, lambda i, j: mp.mpf(1) if unit and i == j else a[i, j] if keep(i, j) else mp.mpf(0))


def inverse(a):
    return a**-1


def log_det(a):
    return mp.log(abs(mp.det(a)))


def eigenvalues(a):
    """Compute the eigenvalues of a Hermitian matrix, the smallest first."""
    return sorted(mp.eighe(mp.matrix(a), eigvals_only=True))


def singular_values(a):
    """Compute the singular values, the largest first."""
    return list(mp.svd_c(mp.matrix(a), compute_uv=False))


def of_hermitian(fun, a):
    """Compute V diag(fun(w)) V^H of A = V diag(w) V^H."""
    w, v = mp.eighe(mp.matrix(a))
    return v * mp.diag([fun(x) for x in w]) * adjoint(v)


def projector(a, chosen):
    """Compute the projector on the eigenvectors of some of the eigenvalues, in rising order."""
    w, v = mp.eighe(mp.matrix(a))
    order = sorted(range(len(w)), key=lambda i: w[i])
    return sum((v[:, order[k]] * adjoint(v[:, order[k]]) for k in chosen), mp.zeros(a.rows))


def pseudo_inverse(a):
    """Compute the pseudo-inverse of a matrix of full rank."""
    if a.rows >= a.cols:
        return inverse(adjoint(a) * a) * adjoint(a)
    return adjoint(a) * inverse(a * adjoint(a))


def product_pseudo_inverse(b, c):
    """Compute the pseudo-inverse of B C, where B has independent columns and C independent rows."""
    return pseudo_inverse(c) * pseudo_inverse(b)


def polar(a):
    """Compute the polar factors of a matrix of full rank: A = U P, or P U if A is wide."""
    if a.rows < a.cols:
        u, p = polar(adjoint(a))
        return adjoint(u), p
    p = of_hermitian(mp.sqrt, adjoint(a) * a)
    return a * inverse(p), p


def cholesky(a):
    return mp.cholesky(a)


def qr(a):
    """Compute the thin QR factorization with a positive diagonal, by Gram and Schmidt."""
    k = min(a.rows, a.cols)
    vectors = []
    for j in range(k):
        x = a[:, j]
        for _ in range(2):
            for v in vectors:
                x = x - v * (adjoint(v) * x)[0]
        vectors.append(x / mp.norm(x))
    q = entries(a.rows, k, lambda i, j: vectors[j][i])
    r = adjoint(q) * a
    return q, entries(k, a.cols, lambda i, j: r[i, j] if i <= j else mp.mpf(0))


def hessenberg(a):
    """Compute the Hessenberg form with positive numbers below the diagonal, by Arnoldi's method from e1."""
    n = a.rows
    vectors = [entries(n, 1, lambda i, j: mp.mpf(i == 0))]
    for _ in range(n - 1):
        x = a * vectors[-1]
        for _ in range(2):
            for v in vectors:
                x = x - v * (adjoint(v) * x)[0]
        vectors.append(x / mp.norm(x))
    q = entries(n, n, lambda i, j: vectors[j][i])
    h = adjoint(q) * a * q
    return entries(n, n, lambda i, j: h[i, j] if i <= j + 1 else mp.mpf(0))


def lu(a):
    """Compute P, L, U with A = P L U, rows exchanged for the largest pivot."""
    u, order = mp.matrix(a), list(range(a.rows))
    low = mp.zeros(a.rows, min(a.rows, a.cols))
    for j in range(min(a.rows, a.cols)):
        best = max(range(j, a.rows), key=lambda i: (abs(u[i, j]), -i))
        for x in (u, low):
            for k in range(x.cols):
                x[j, k], x[best, k] = x[best, k], x[j, k]
        order[j], order[best] = order[best], order[j]
        low[j, j] = mp.mpf(1)
        for i in range(j + 1, a.rows):
            low[i, j] = u[i, j] / u[j, j]
            for k in range(a.cols):
                u[i, k] -= low[i, j] * u[j, k]
    exchange = entries(a.rows, a.rows, lambda i, j: mp.mpf(order[j] == i))
    return exchange, low, triangle(u[: low.cols, :], low=False)


def expm(a):
    return mp.expm(a, method="taylor")


def expm_frechet(a, e):
    """Compute the derivative of expm at A along E, a block of the exponential of [[A, E], [0, A]]."""
    n = a.rows

    def block(i, j):
        if i >= n:
            return a[i - n, j - n] if j >= n else mp.mpf(0)
        return e[i, j - n] if j >= n else a[i, j]

    return expm(entries(2 * n, 2 * n, block))[:n, n:]


def sylvester(a, b, c):
    """Solve A X + X B = C."""
    m, n = c.rows, c.cols
    system = mp.zeros(m * n)
    for i in range(m):
        for j in range(n):
            for k in range(m):
                system[i * n + j, k * n + j] += a[i, k]
            for k in range(n):
                system[i * n + j, i * n + k] += b[k, j]
    x = mp.lu_solve(system, entries(m * n, 1, lambda i, j: c[i // n, i % n]))
    return entries(m, n, lambda i, j: x[i * n + j])


def norm(a, order):
    """Compute a norm of a matrix."""
    if order == "fro":
        return mp.sqrt(sum(abs(x) ** 2 for x in a))
    if order in ("nuc", 2, -2):
        s = singular_values(a)
        return sum(s) if order == "nuc" else s[0] if order == 2 else s[-1]
    a = a if abs(order) != 1 else a.T
    sums = [sum(abs(a[i, j]) for j in range(a.cols)) for i in range(a.rows)]
    return max(sums) if order > 0 else min(sums)


def vector_norm(x, order):
    """Compute a norm of the elements."""
    sizes = [abs(v) for v in x]
    if order == 0:
        return mp.mpf(sum(v != 0 for v in sizes))
    if order in (float("inf"), float("-inf")):
        return max(sizes) if order > 0 else min(sizes)
    if order < 0 and 0 in sizes:
        return mp.mpf(0)
    return sum(v ** mp.mpf(order) for v in sizes) ** (1 / mp.mpf(order))
