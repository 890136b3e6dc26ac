"""diffprog: differentiate any JAX program, look at every gradient in it, and optimise whatever you point at."""
