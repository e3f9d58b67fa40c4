"""HTTP routes. No trailing slashes, except the admin's own."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("training.api.urls")),
    path("", include("training.dashboard.urls")),
]

handler400 = "training.api.errors.bad_request"
handler500 = "training.api.errors.internal_error"
