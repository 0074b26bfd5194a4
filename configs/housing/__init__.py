"""Boston housing: what homes cost, by where they stand. A regression, with pictures of preparation, training and result."""
