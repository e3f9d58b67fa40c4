"""The shapes of results in the schema: reports, predictions, comparisons, the leaderboard."""

from typing import Any

from rest_framework import serializers


def series(text: str = "") -> serializers.ListField:
    """Numbers by day; null where there is none."""
    child = serializers.FloatField(allow_null=True)
    return serializers.ListField(child=child, help_text=text)


def days(text: str = "") -> serializers.ListField:
    """Days, ascending."""
    return serializers.ListField(child=serializers.DateField(), help_text=text)


def texts(text: str = "") -> serializers.ListField:
    """Names."""
    return serializers.ListField(child=serializers.CharField(), help_text=text)


class PortfolioShape(serializers.Serializer[Any]):
    """The backtest, day by day: running sums of returns, as fractions of the account."""

    days = days()
    return_with_cost = series()
    return_without_cost = series()
    benchmark = series()
    excess_with_cost = series("return with cost less the benchmark's")
    excess_without_cost = series()
    drawdown_with_cost = series("of the excess return; 0 or less")
    drawdown_without_cost = series()
    turnover = series("of the day, not added up")


class YearsShape(serializers.Serializer[Any]):
    """Returns by year."""

    years = texts("`2018`")
    return_with_cost = series()
    benchmark = series()
    excess_with_cost = series()


class MonthlyShape(serializers.Serializer[Any]):
    """Returns by month: sums of the days'."""

    months = texts("`2018-03`")
    return_with_cost = series()
    benchmark = series()
    excess_with_cost = series()
    years = YearsShape()


class ICByMonthShape(serializers.Serializer[Any]):
    """Means of the days' IC."""

    months = texts("`2018-03`")
    ic = series()
    rank_ic = series()


class DistributionShape(serializers.Serializer[Any]):
    """Days whose IC lay between each two neighbouring edges: one count less than edges."""

    edges = series("ascending, symmetric around 0")
    ic = serializers.ListField(child=serializers.IntegerField())
    rank_ic = serializers.ListField(child=serializers.IntegerField())


class ICShape(serializers.Serializer[Any]):
    """Correlation of prediction and label, day by day."""

    days = days()
    ic = series("Pearson")
    rank_ic = series("Spearman")
    by_month = ICByMonthShape()
    distribution = DistributionShape()


class GroupsShape(serializers.Serializer[Any]):
    """Each day's instruments in five groups by score: mean labels, added up."""

    days = days()
    groups = serializers.DictField(child=series(), help_text="`1` has the highest scores")
    long_short = series("group 1 less group 5")
    long_average = series("group 1 less all")


class ImportanceShape(serializers.Serializer[Any]):
    """How much the model leans on each feature, the most first."""

    kind = serializers.ChoiceField(choices=["importance", "coefficient"])
    unit = serializers.CharField(required=False, help_text="of the values, where it is known")
    features = texts()
    values = series()


class HoldingsShape(serializers.Serializer[Any]):
    """What the backtest held, in short, at the end of each day."""

    days = days()
    count = serializers.ListField(child=serializers.IntegerField(), help_text="instruments held")
    cash_share = series("of the account's value")


class ReportShape(serializers.Serializer[Any]):
    """What a training has come to; blocks whose record was not asked for are absent."""

    task_id = serializers.CharField()
    version = serializers.IntegerField(help_text="of the training's own report file")
    data = serializers.DictField(  # type: ignore[assignment]
        help_text="dataset, fingerprint, first and last day, instruments"
    )
    computed_by = serializers.DictField(
        child=serializers.CharField(), help_text="the Qlib record behind each block"
    )
    label_is_return = serializers.BooleanField(
        help_text="whether `groups` and labels are returns, as fractions"
    )
    portfolio = PortfolioShape(required=False)
    monthly = MonthlyShape(required=False)
    holdings = HoldingsShape(required=False)
    ic = ICShape(required=False)
    groups = GroupsShape(required=False)
    feature_importance = ImportanceShape(required=False, allow_null=True)


class PredictionShape(serializers.Serializer[Any]):
    """One score."""

    date = serializers.DateField()
    instrument = serializers.CharField()
    score = serializers.FloatField()
    label = serializers.FloatField(  # type: ignore[assignment]
        allow_null=True, help_text="that came, a forward return as a rule; null where unknown"
    )
    rank = serializers.IntegerField(help_text="of the day; 1 is the highest score")


class PredictionPage(serializers.Serializer[Any]):
    """Scores of one day, or of one instrument."""

    results = PredictionShape(many=True)
    next = serializers.URLField(allow_null=True)
    date = serializers.DateField(allow_null=True, help_text="the day, if all rows are of one")


class PositionShape(serializers.Serializer[Any]):
    """One holding at the end of a day."""

    date = serializers.DateField()
    instrument = serializers.CharField()
    amount = serializers.FloatField(allow_null=True)
    price = serializers.FloatField(allow_null=True)
    weight = serializers.FloatField(allow_null=True, help_text="share of the account")


class AccountShape(serializers.Serializer[Any]):
    """The account at the end of the day."""

    cash = serializers.FloatField(allow_null=True)
    value = serializers.FloatField(allow_null=True)


class PositionPage(serializers.Serializer[Any]):
    """Holdings of one day, or one instrument's."""

    results = PositionShape(many=True)
    next = serializers.URLField(allow_null=True)
    date = serializers.DateField(allow_null=True, help_text="the day, if all rows are of one")
    account = AccountShape(allow_null=True, help_text="of that day")


class BoardShape(serializers.Serializer[Any]):
    """What results can be compared on."""

    dataset = serializers.CharField()
    dataset_version = serializers.CharField()
    test_from = serializers.DateField()
    test_to = serializers.DateField()


class KnownBoardShape(BoardShape):
    """A board, and how much is on it."""

    tries = serializers.IntegerField()
    newest = serializers.DateTimeField()


class TriesShape(serializers.Serializer[Any]):
    """What a winner was chosen from, among the tasks that the caller may see."""

    count = serializers.IntegerField(help_text="completed tasks with a backtest")
    different = serializers.IntegerField(help_text="with information ratios of their own")
    variance = serializers.FloatField(help_text="of the tries' daily Sharpe ratios")
    expected_best = serializers.FloatField(
        help_text="daily Sharpe ratio that the best of them would show by chance"
    )


class LeaderShape(serializers.Serializer[Any]):
    """A task on a board."""

    place = serializers.IntegerField()
    task_id = serializers.CharField()
    name = serializers.CharField()
    owner = serializers.CharField()
    model = serializers.CharField()
    created_at = serializers.DateTimeField()
    metrics = serializers.DictField(child=serializers.FloatField())
    days = serializers.IntegerField(allow_null=True, help_text="of the backtest")
    sharpe = serializers.FloatField(
        allow_null=True, help_text="daily, of the excess return with cost"
    )
    probabilistic_sharpe = serializers.FloatField(
        allow_null=True, help_text="probability that the true Sharpe ratio is above 0"
    )
    deflated_sharpe = serializers.FloatField(
        allow_null=True,
        help_text="probability that it is above what the best of all tries shows by chance"
        " (Bailey and López de Prado, 2014)",
    )


class LeaderboardShape(serializers.Serializer[Any]):
    """A board with its leaders, and the boards there are."""

    board = BoardShape()
    order = serializers.CharField()
    tries = TriesShape()
    results = LeaderShape(many=True)
    boards = KnownBoardShape(many=True)


class ComparedTaskShape(serializers.Serializer[Any]):
    """A task of a comparison, in short."""

    id = serializers.CharField()
    name = serializers.CharField()
    owner = serializers.CharField()
    status = serializers.CharField()
    model = serializers.CharField()
    dataset = serializers.CharField()
    created_at = serializers.DateTimeField()


class MetricRowShape(serializers.Serializer[Any]):
    """One metric of all tasks."""

    name = serializers.CharField()
    values = series("in the order of the tasks")
    best = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="places of the best; empty where neither more nor less is better, and of other"
        " data or test periods",
    )


class DifferenceShape(serializers.Serializer[Any]):
    """One place of the configs that is not the same in all."""

    path = serializers.CharField()
    values = serializers.ListField(
        child=serializers.JSONField(), help_text="in the order of the tasks; null where absent"
    )


class ComparedCurveShape(serializers.Serializer[Any]):
    """One task's backtest; days of its own."""

    task_id = serializers.CharField()
    days = days()
    return_with_cost = series()
    excess_with_cost = series()
    drawdown_with_cost = series()
    benchmark = series()


class CorrelationShape(serializers.Serializer[Any]):
    """How alike the predictions are: means over the days of correlations across instruments."""

    state = serializers.ChoiceField(choices=["waiting", "ready", "failed"])
    error = serializers.CharField(allow_blank=True)
    tasks = texts("the order of rows and columns")
    pearson = serializers.ListField(child=series())
    rank = serializers.ListField(child=series(), help_text="Spearman")
    days = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField()))


class ComparisonShape(serializers.Serializer[Any]):
    """Two to twenty tasks over each other."""

    tasks = ComparedTaskShape(many=True)
    same_data = serializers.BooleanField(help_text="one dataset, one fingerprint")
    same_test = serializers.BooleanField(help_text="one test period")
    metrics = MetricRowShape(many=True)
    differences = DifferenceShape(many=True)
    curves = ComparedCurveShape(many=True, help_text="of those with a backtest")
    correlation = CorrelationShape(
        allow_null=True, help_text="computed by a worker: ask again while it is waiting"
    )
