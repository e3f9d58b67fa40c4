"""HTTP routes. No trailing slashes, except the admin's own."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("training.api.urls")),
]
