"""Credit inside a program: patching between two runs, units, concepts, pairs."""
