"""The rules of Kubeflow Pipelines' backend, applied to a compiled package without a cluster.

    package.py     what the API server and the compiler to Argo make of the file
    conditions.py  the CEL expressions that decide whether a group runs
    driver.py      the inputs of a task, and its ExecutorInput
    launcher.py    placeholders of the command; what the task wrote about itself
    pods.py        every task as its own process: a read-only image, a number for a user, volumes, nothing else
    backend.py     one run: DAGs, skipped tasks, retries, exit tasks

Every rule is a function of its own whose docstring names the file that has it in kubeflow/pipelines (2.17.0, and 2.5.0 where
that differs). What the backend merely ignores, so that a pipeline would quietly not do what it says, is refused too.
"""
