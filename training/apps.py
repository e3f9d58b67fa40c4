"""The app's configuration: wires the one signal to its listeners."""

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    """Training tasks and their adapters."""

    name = "training"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the broadcaster to the events; register the system checks."""
        from . import checks  # noqa: F401
        from .live import broadcast

        broadcast.connect()
