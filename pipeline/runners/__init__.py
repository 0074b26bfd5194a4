"""The plan translated for an engine."""
