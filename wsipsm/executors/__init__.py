"""Executors of tasks, in this process or on Dask workers; nothing in this room knows pathology."""
