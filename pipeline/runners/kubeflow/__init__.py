"""The engine of a cluster: a definition as a package of Kubeflow Pipelines, and what its pods do."""
