"""Methods that take parts of an input away and look at the score: no gradient is needed."""
