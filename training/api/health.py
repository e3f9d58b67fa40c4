"""Whether this process is alive, and whether the platform can do its work."""

from ipaddress import ip_address

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training.models import Worker
from training.work import queue

from . import serializers
from .errors import NotReady
from .schema import failures


class SameMachineOrSignedIn(BasePermission):
    """Callers from this machine's loopback, and everyone who is signed in."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return _is_local(request) or bool(request.user.is_authenticated)


def _is_local(request: Request) -> bool:
    # A proxy on this machine speaks for others, and says so.
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


class Alive(APIView):
    """This process answers."""

    authentication_classes = []
    permission_classes = []

    @extend_schema(operation_id="healthz", auth=[], responses={200: serializers.HealthShape})
    def get(self, request: Request) -> Response:
        """Always 200, for whoever asks; looks at nothing else."""
        return Response({"status": "alive"})


class Ready(APIView):
    """The platform can take a task and train it."""

    permission_classes = [SameMachineOrSignedIn]

    def perform_authentication(self, request: Request) -> None:
        """Left to the permission: who asks from this machine needs no database to be told."""

    @extend_schema(operation_id="readyz", responses={200: serializers.HealthShape, **failures(503)})
    def get(self, request: Request) -> Response:
        """Database, migrations, Redis and a worker; 503 names what is missing."""
        missing = _missing()
        if missing:
            raise NotReady(missing)
        return Response({"status": "ready"})


def _missing() -> dict[str, str]:
    missing = {}
    try:
        if unapplied := _unapplied():
            missing["migrations"] = f"{unapplied} not applied: run manage.py migrate"
        elif not Worker.objects.alive().filter(draining=False).exists():
            missing["worker"] = "none was seen lately: start one"
    except Error as error:
        missing["database"] = f"does not answer: {type(error).__name__}"
    if not queue.ping():
        missing["redis"] = "does not answer"
    return missing


def _unapplied() -> int:
    """How many migrations this code has that the database has not. Raises: Error."""
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
