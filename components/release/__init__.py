"""A model to serving."""
