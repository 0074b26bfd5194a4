"""Raw examples to features."""
