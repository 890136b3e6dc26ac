"""Whether an objective can be optimized, what makes it hard, and by which family of methods."""
