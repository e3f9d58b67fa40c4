"""Users, and the tokens that stand for them."""

from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from training import tokens

AuthToken = apps.get_model("knox", "AuthToken")


admin.site.unregister(User)
admin.site.unregister(AuthToken)

HOLDING_SHOWN = 20
"""Tasks that are named where their owner cannot be deleted."""


@admin.register(User)
class PlatformUserAdmin(UserAdmin):  # type: ignore[type-arg]
    """Users, and the making of their API tokens."""

    actions = ("create_token",)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What would go with them; tasks hold their owner, and no permission changes that."""
        going, counts, lacking, holding = super().get_deleted_objects(objs, request)
        more = len(holding) - HOLDING_SHOWN
        shown = [*holding[:HOLDING_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return going, counts, set() if holding else lacking, shown

    @admin.action(description="Create an API token, shown once", permissions=["change"])
    def create_token(self, request: HttpRequest, users: QuerySet[User]) -> HttpResponse | None:
        """A page with the tokens; they are in no message, cookie or log.

        A token is its user: only a superuser makes one for somebody else.
        """
        chosen = list(users.filter(is_active=True))
        if not request.user.is_superuser and any(user != request.user for user in chosen):
            self.message_user(request, "You can make a token for yourself only", messages.ERROR)
            return None
        made = [(user, tokens.create(user)) for user in chosen]
        context = {**self.admin_site.each_context(request), "made": made, "opts": self.opts}
        return TemplateResponse(
            request,
            "training/admin/tokens.html",
            context,
            headers={"Cache-Control": "no-store"},
        )


@admin.register(AuthToken)
class TokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Tokens, by their first characters: to be revoked, never to be read or made here."""

    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("user__username", "token_key")
    fields = ("token_key", "user", "created", "expiry")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
