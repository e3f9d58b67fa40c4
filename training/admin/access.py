"""Who may see and change what in the admin."""

from django.db.models import Model
from django.http import HttpRequest


class ReadOnly:
    """Every member of the staff may look; nobody adds, changes or deletes by a form."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def is_staff(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_staff
