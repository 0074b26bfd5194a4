"""How a run ended, told to whom it may concern."""
