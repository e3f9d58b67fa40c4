"""A query whose SQL is composed once.

Django composes a query anew each time it is asked. For the row of one task, which programs ask for
most, that takes as long as all the rest of the call.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.sql.compiler import SQLCompiler

Rows = QuerySet[Any, Any]


class Composed:
    """Rows of a `values_list` by parameters that stand in it in the order of `parameters`.

    parameters: stand-ins, each another value, so that each is found again in the SQL's own. What
    takes their place is given to the database as it is: texts and whole numbers.
    """

    def __init__(self, rows: Callable[..., Rows], *parameters: str | int) -> None:
        self._rows = rows
        self._parameters = parameters

    def ask(self, *values: str | int) -> list[tuple[Any, ...]]:
        """The rows for these values, as the query would have them."""
        sql, places, compiler, converters = self._composed
        with connection.cursor() as cursor:
            cursor.execute(sql, [values[place] for place in places])
            found = cursor.fetchall()
        return [tuple(row) for row in compiler.apply_converters(found, converters)]

    @cached_property
    def _composed(self) -> tuple[str, Sequence[int], SQLCompiler, Any]:
        query = self._rows(*self._parameters).query
        compiler = query.get_compiler(connection=connection)
        sql, found = compiler.as_sql()
        converters = compiler.get_converters([column for column, *_ in compiler.select])
        return sql, [self._parameters.index(one) for one in found], compiler, converters
