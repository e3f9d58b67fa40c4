"""System checks: what would go wrong later is said at the start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from .catalogue import OwnClassesNotRead, load


@register()
def lease_outlives_its_renewal(**_: Any) -> list[CheckMessage]:
    """A lease must survive a missed renewal, or a busy leader loses its task."""
    if settings.LEASE.total_seconds() >= 2 * settings.LEASE_RENEW_S:
        return []
    return [
        Error(
            "PLATFORM_LEASE_S must be at least twice PLATFORM_LEASE_RENEW_S",
            hint="the defaults are 15 and 4 seconds",
            id="training.E001",
        )
    ]


@register()
def own_classes_were_read(**_: Any) -> list[CheckMessage]:
    """An administrator's list of own classes and what was read of it belong together."""
    try:
        load()
    except OwnClassesNotRead as error:
        return [Error(str(error), id="training.E002")]
    return []
