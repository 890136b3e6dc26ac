"""What all attributions share: the record, the question that a method asks, baselines, scores and the sweep."""
