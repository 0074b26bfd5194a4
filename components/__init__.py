"""What a step does to data. Imports schemas, never pipeline."""
