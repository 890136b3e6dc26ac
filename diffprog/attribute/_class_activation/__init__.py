"""Class activation maps: which positions of a layer speak for a score."""
