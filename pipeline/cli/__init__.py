"""The `pipeline` command: one file per verb."""
