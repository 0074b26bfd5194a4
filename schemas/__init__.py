"""What crosses a boundary: artifacts, the contract of a step, configuration, errors. Imports nothing else of ours."""
