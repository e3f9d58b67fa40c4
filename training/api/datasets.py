"""The datasets there are, and their health."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import coverage
from training.errors import NotFound
from training.events import instant
from training.models import Dataset

from . import queries, serializers
from .schema import failures


class DatasetList(APIView):
    """Markets that workflows can name."""

    @extend_schema(
        operation_id="list_datasets",
        responses={200: serializers.DatasetPage, **failures(400)},
    )
    def get(self, request: Request) -> Response:
        """All datasets, by name."""
        queries.read(request, queries.NoQuery)
        rows = Dataset.objects.defer("manifest").order_by("name")
        return Response({"results": [_to_wire(row) for row in rows], "next": None})


class DatasetDetail(APIView):
    """One market."""

    @extend_schema(
        operation_id="get_dataset",
        parameters=[queries.CoverageQuery],
        responses={200: serializers.CoveredDatasetShape, **failures(400, 404)},
    )
    def get(self, request: Request, name: str) -> Response:
        """How far it reaches, where it has holes, its versions and its health."""
        asked = queries.read(request, queries.CoverageQuery)
        row = Dataset.objects.filter(name=name).first()
        if row is None:
            raise NotFound(f"there is no dataset {name!r}")
        return Response({**_to_wire(row), "coverage": coverage.of(row, points=asked["points"])})


def _to_wire(row: Dataset) -> dict[str, Any]:
    return {
        "name": row.name,
        "region": row.region,
        "version": row.version,
        "fingerprint": row.fingerprint,
        "rows": row.rows,
        "first_day": row.first_day.isoformat(),
        "last_day": row.last_day.isoformat(),
        "instruments": row.instrument_count,
        "synthetic": row.synthetic,
        "available": (settings.DATASETS_DIR / row.name / row.version).is_dir(),
        "updated_at": instant(row.updated_at),
    }
