"""`while_loop` and `fori_loop` with a trip count that is known only while they run."""
