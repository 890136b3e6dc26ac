"""What diffprog says to each primitive that JAX differentiates, read from JAX's live tables.

python -m tests.rules.coverage > diffprog/_rules/COVERAGE.md
"""

import importlib

import jax
from jax._src.interpreters import ad

import diffprog  # noqa: F401  (fills the table of rules)
from diffprog._tracer import references
from diffprog._tracer.rules import rules, zero

# JAX's own modules put their derivatives into its tables when they are imported.
MODULES = (
    "jax.experimental.checkify",
    "jax.experimental.compute_on",
    "jax.experimental.fused",
    "jax.experimental.hijax",
    "jax.experimental.multihost_utils",
    "jax.experimental.pallas",
    "jax.experimental.scheduling_groups",
    "jax.experimental.shard_map",
    "jax.experimental.sparse",
    "jax.experimental.xla_metadata",
)

WITHOUT = {
    "Pallas kernels: give the kernel a jax.custom_vjp": (
        "masked_load masked_swap load swap_p pallas_call get_global mpmd_map"
    ),
    "only inside JAX's own reverse mode, where diffprog never runs": (
        "custom_lin call_hi_primitive_linearized mul_add_any zeros_like_any"
    ),
}

# Of libraries, which register a JVP and a transpose, as anybody may: no rule of ours is needed.
REGISTERED = (
    "bcoo_dot_general bcoo_dot_general_sampled bcoo_extract bcoo_fromdense bcoo_multiply_sparse bcoo_sort_indices "
    "bcoo_spdot_general bcoo_sum_duplicates bcoo_todense bcoo_transpose bcsr_dot_general bcsr_extract bcsr_fromdense "
    "bcsr_todense coo_fromdense coo_matmat coo_matvec coo_todense csr_fromdense csr_matmat csr_matvec csr_matvec_p "
    "csr_todense spsolve todense"
).split()

# The tape itself meets these: they are not operations on values.
ON_THE_TAPE = {
    "call": "_tracer/tape.py",
    "closed_call": "_tracer/tape.py",
    "custom_jvp_call": "_tracer/custom.py",
    "custom_vjp_call": "_tracer/custom.py",
    "shard_map": "_rules/shard_map.py",
}


def differentiated() -> set[str]:
    """The names of the primitives for which the installed JAX has a derivative or a transpose."""
    for module in MODULES:
        try:
            importlib.import_module(module)
        except ImportError:
            continue  # not in this version
    tables = (ad.primitive_jvps, ad.primitive_linearizations, ad.primitive_transposes, ad.fancy_transposes)
    return {primitive.name for table in tables for primitive in table}


def answer(name: str) -> str | None:
    """Where the derivative of a primitive is, or why there is none; None if nothing is said of it."""
    if name in ON_THE_TAPE:
        return f"`{ON_THE_TAPE[name]}`"
    if name in zero:
        return "zero"
    if name in rules:
        module = _module(rules[name])
        return f"`_rules/{module}.py`"
    if name in references.PRIMITIVES:
        return "`_tracer/references.py`"
    if name in REGISTERED:
        return "the JVP and transpose registered with JAX"
    return next((reason for reason, names in WITHOUT.items() if name in names.split()), None)


def contradictions() -> list[str]:
    """The primitives of which nothing is said, and those that are left out but have a rule."""
    left_out = {name for names in WITHOUT.values() for name in names.split()}
    return [name for name in sorted(differentiated()) if answer(name) is None] + sorted(left_out & set(rules))


def _module(rule) -> str:
    """Find the file of a rule: of the formula, where a helper of the table made the rule from one."""
    for function in (*_functions_in(rule), rule):
        module = function.__module__
        if module.startswith("diffprog._rules."):
            return module.removeprefix("diffprog._rules.").replace(".", "/")
    return "table"


def _functions_in(rule):
    cells = getattr(rule, "__closure__", None) or ()
    contents = [cell.cell_contents for cell in cells]
    return [content for content in contents if callable(content) and hasattr(content, "__module__")]


def text() -> str:
    """The table as Markdown."""
    names = sorted(differentiated())
    beyond = sorted(set(rules) - set(names) - zero)
    answers = {name: answer(name) for name in names}
    with_rule = sum(a is not None and not any(a == reason for reason in WITHOUT) for a in answers.values())
    lines = [
        "# Coverage",
        "",
        f"Generated from the tables of JAX {jax.__version__} by `python -m tests.rules.coverage`; do not edit.",
        "",
        f"JAX differentiates or transposes {len(names)} primitives; diffprog differentiates {with_rule} of them and "
        "gives the reason for the rest.",
        "",
        "| primitive | derivative |",
        "|---|---|",
        *(f"| `{name}` | {answers[name]} |" for name in names),
        "",
        f"Rules for {len(beyond)} primitives that this JAX does not differentiate, or that other versions have:",
        ", ".join(f"`{name}`" for name in beyond) + ".",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(text())
