"""Problems that come with Penstock, one package each."""
