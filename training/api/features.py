"""The shared store of features: what it holds, and what it has saved."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import features

from . import queries, serializers
from .schema import failures


class FeatureStore(APIView):
    """Columns of features that tasks have computed once for all."""

    @extend_schema(
        operation_id="show_feature_store",
        responses={200: serializers.FeatureStoreShape, **failures(400)},
    )
    def get(self, request: Request) -> Response:
        """The store now, and its totals since it began, over all owners. What one task found and
        made is in its `result.features`."""
        queries.read(request, queries.NoQuery)
        return Response(features.figures())
