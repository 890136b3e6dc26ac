"""The loop that every optimizer of `minimize` and `least_squares` runs in, and what an optimizer may ask in it."""
