"""The Django admin: tasks to watch and act on, everything else to read; users and their tokens.

One module for each kind of row. Nothing is written here: actions go through `services`, which ask
who may.
"""

from . import datasets, events, people, presets, tasks, workers

__all__ = ["datasets", "events", "people", "presets", "tasks", "workers"]
