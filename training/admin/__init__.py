"""The Django admin: tasks to watch and act on, everything else to read; users and their tokens.

One module for each kind of row. Nothing is written here: actions go through `services`, which ask
who may.
"""

from django.contrib import admin

from . import datasets, events, people, presets, tasks, workers

__all__ = ["datasets", "events", "people", "presets", "tasks", "workers"]

admin.site.site_header = admin.site.site_title = "Qlib Platform"
admin.site.index_title = "Administration"
admin.site.index_template = "training/admin/index.html"
