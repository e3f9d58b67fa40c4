"""Presets, and the check that each can run."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from training import presets
from training.errors import Fault, InvalidConfig, NotFound, TooLarge
from training.models import Preset
from training.preflight import check

from .access import is_staff


class PresetForm(forms.ModelForm):  # type: ignore[type-arg]
    """A preset is kept only if it can run on a dataset that is here."""

    class Meta:
        model = Preset
        fields = ("name", "title", "description", "position", "workflow")

    def clean_workflow(self) -> str:
        """Every fault, at its place, as a submission would be told it."""
        text: str = self.cleaned_data["workflow"]
        try:
            data = presets.parse(text)
            _refuse(_faults_in(data))
        except InvalidConfig as invalid:
            _refuse(invalid.faults)
        except TooLarge as error:
            raise forms.ValidationError(error.message) from error
        return text


def _faults_in(preset: dict[str, Any]) -> Sequence[Fault]:
    """Of the preset on the default dataset, if there is any; the workers may come later."""
    try:
        dataset = presets.dataset_for(None)
    except NotFound:
        return ()
    document = presets.fitted(preset, dataset, name="preset")
    document["platform"]["when_no_worker"] = "wait"
    body = presets.as_yaml(document).encode()
    return check(body, content_type="application/yaml").faults


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise forms.ValidationError([f"{fault.path}: {fault.message}" for fault in faults])


@admin.register(Preset)
class PresetAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Presets belong to the staff, all of them."""

    form = PresetForm
    list_display = ("title", "name", "position", "description", "updated_at")
    list_editable = ("position",)
    search_fields = ("name", "title", "description")
    prepopulated_fields = {"name": ("title",)}

    def get_readonly_fields(self, request: HttpRequest, obj: Preset | None = None) -> list[str]:
        """The name is the key: another name would be another preset."""
        return ["name"] if obj else []

    def get_prepopulated_fields(
        self, request: HttpRequest, obj: Preset | None = None
    ) -> dict[str, Any]:
        return {} if obj else dict(self.prepopulated_fields)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_staff(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_staff(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_staff(request)
