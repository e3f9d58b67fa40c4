"""The same tasks, served as Django and its REST framework are usually written: to measure against.

    daphne tests.benchmarks.usual:application

Django's own ASGI handler, a ModelViewSet, page numbers with a COUNT, knox's own authentication,
the framework's own JSON; over our tables and settings. A POST checks types only.
"""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from knox.auth import TokenAuthentication  # noqa: E402
from rest_framework import serializers, viewsets  # noqa: E402
from rest_framework.pagination import PageNumberPagination  # noqa: E402
from rest_framework.parsers import JSONParser  # noqa: E402
from rest_framework.renderers import JSONRenderer  # noqa: E402

from training.models import TrainingTask  # noqa: E402


class TaskSerializer(serializers.ModelSerializer[TrainingTask]):
    """All columns of a task."""

    owner = serializers.CharField(source="owner.username", read_only=True)

    class Meta:
        model = TrainingTask
        fields = "__all__"
        read_only_fields = ("status", "progress", "result")


class TwentyAPage(PageNumberPagination):
    """Page numbers, as the framework has them."""

    page_size = 20


class Tasks(viewsets.ModelViewSet[TrainingTask]):
    """List, detail, create."""

    authentication_classes = [TokenAuthentication]
    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]
    pagination_class = TwentyAPage
    serializer_class = TaskSerializer

    def get_queryset(self) -> Any:
        """What the caller may see."""
        mine = TrainingTask.objects.visible_to(self.request.user).select_related("owner")
        return mine.order_by("-created_at", "-id")

    def perform_create(self, serializer: Any) -> None:
        """The caller's."""
        serializer.save(owner=self.request.user)


urlpatterns = [
    path("api/tasks", Tasks.as_view({"get": "list"})),
    path("api/train", Tasks.as_view({"post": "create"})),
    path("api/tasks/<str:pk>", Tasks.as_view({"get": "retrieve"})),
]

settings.ROOT_URLCONF = __name__
application = get_asgi_application()
