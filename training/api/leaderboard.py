"""The leaderboard: the best on one dataset and test period, and how much of it is luck."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import standings

from . import queries, result_shapes
from .schema import failures


class Leaderboard(APIView):
    """Who is ahead."""

    @extend_schema(
        operation_id="get_leaderboard",
        parameters=[queries.LeaderboardQuery],
        responses={200: result_shapes.LeaderboardShape, **failures(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """The best tasks on one dataset, version and test period by a headline metric; the tries
        behind the winner, and each one's deflated Sharpe ratio."""
        asked = queries.read(request, queries.LeaderboardQuery)
        return Response(standings.leaderboard(request.user, **asked))
