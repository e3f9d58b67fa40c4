"""Presets: workflows to start from."""

from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import presets

from . import queries, serializers
from .schema import failures


class PresetList(APIView):
    """Official models, ready for a dataset that is here."""

    @extend_schema(
        operation_id="list_presets",
        parameters=[queries.PresetsQuery],
        responses={200: serializers.PresetPage, **failures(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """All presets, fitted to one dataset: its dates, market and benchmark."""
        asked = queries.read(request, queries.PresetsQuery)
        offers = presets.offers(presets.dataset_for(asked.get("dataset")))
        return Response({"results": [asdict(offer) for offer in offers], "next": None})


class PresetDetail(APIView):
    """One preset."""

    @extend_schema(
        operation_id="get_preset",
        parameters=[queries.PresetsQuery],
        responses={200: serializers.PresetShape, **failures(400, 404)},
    )
    def get(self, request: Request, name: str) -> Response:
        """The preset, fitted to one dataset."""
        asked = queries.read(request, queries.PresetsQuery)
        dataset = presets.dataset_for(asked.get("dataset"))
        return Response(asdict(presets.offer(name, dataset)))
