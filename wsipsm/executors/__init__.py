"""Runs tasks, here or on Dask workers; knows no pathology."""
