"""Files to examples, their statistics, their schema and what does not fit it."""
