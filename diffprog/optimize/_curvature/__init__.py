"""Second derivatives of an objective, and what follows from them for first-order methods."""
