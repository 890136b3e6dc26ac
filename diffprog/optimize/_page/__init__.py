"""One page that shows why an optimizer does what it does: paths, exact rates, families, noise, failures."""
