"""When, where and whether a step runs. Finds components by dotted path at run time."""
