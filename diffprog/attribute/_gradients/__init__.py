"""Attributions from gradients: at the input, around it, and along paths to it."""
