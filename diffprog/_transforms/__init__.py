"""What users call: `grad`, `vjp`, `jacrev` and their kin, with JAX's signatures, and with checks and messages."""
