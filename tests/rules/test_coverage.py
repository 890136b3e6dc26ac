"""Which primitives have a rule, and which rules a row of the table exercises."""

import subprocess
import sys

import jax
import jax.scipy.special
import numpy as np

import diffprog as dp
from diffprog._tracer.rules import rules, zero
from tests.rules.rows import ROWS
from tests.rules.test_rules import make_args

# Rules that other tests exercise (test_beyond_jax.py, test_factorizations.py, test_ragged.py, test_fourier.py,
# test_composition.py, test_while_loop.py), and those of primitives that only some JAX versions have.
ELSEWHERE = set(
    "jit call_apart remat2 scan cond while checkpointed_while checkpointed_while_backward eval_jaxpr custom_vmap_call "
    "composite planned tie stage xla_metadata_value add_any log2 one_minus_square polynomial nextafter zeta "
    "igamma_grad_a fft reduce_window ragged_dot_general from_edtype to_edtype "
    "householder_product ormqr geqrf geqp3 hessenberg tridiagonal schur cholesky_update symmetric_product "
    "call_hi_primitive linear_call remat_opt compute_on fused_call xla_metadata_call "
    "perturbed name "  # tests/graph
    "accum_grad_in_ref run_state swap addupdate "
    "pure_callback io_callback buffer_callback ffi_call box_set log_extend "
    # tests/devices:
    "shard_map psum_invariant pmax pmin ppermute pbroadcast pbroadcast_dynamic all_to_all ragged_all_to_all all_gather "
    "all_gather_invariant all_gather_reduced reduce_scatter unreduced_reduce_scatter pvary preduced unreduced_psum "
    "vary_unreduced_cast vary_unreduced_cast_p reduced_vary_cast reduced_vary_cast_p reshard relayout shard_alike "
    "with_memory_space_constraint global_array_to_host_local_array host_local_array_to_global_array".split()
)


def test_every_primitive_that_jax_differentiates_has_a_rule_or_a_reason():
    """In a process of its own: other tests make primitives, which enter JAX's tables."""
    code = "from tests.rules import coverage; print(coverage.contradictions())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_every_rule_is_exercised(monkeypatch):
    used = set()
    for name, rule in list(rules.items()):
        monkeypatch.setitem(rules, name, lambda *args, name=name, rule=rule: used.add(name) or rule(*args))
    jax.clear_caches()
    for row in ROWS:
        args = make_args(row, np.complex64 if row.complex_too else np.float32)
        jax.eval_shape(lambda *args, row=row: dp.vjp(row.fun, *args)[0], *args)
    assert sorted(set(rules) - used - zero - ELSEWHERE) == []
