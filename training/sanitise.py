"""The one sanitiser for what goes into JSON, rows and sockets. Standard library only.

PostgreSQL refuses NUL and lone surrogates, both databases refuse NaN and infinities in JSON,
and browsers refuse NaN. A final event that can't be written would leave its task running for
ever, so everything is repaired here, before it is written.
"""

import math
from typing import Any

MAX_TEXT = 16_384
"""Characters of one text; what is longer is cut and ends with the mark."""

CUT_MARK = "… (cut)"


def clean_text(text: str, *, limit: int = MAX_TEXT) -> str:
    """The text without NUL and lone surrogates, at most `limit` characters."""
    whole = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if len(whole) <= limit:
        return whole
    return whole[: limit - len(CUT_MARK)] + CUT_MARK


def clean(value: Any) -> Any:
    """The value as JSON can hold it on every database: NaN and infinities become null.

    Numpy scalars become Python's; what JSON doesn't know becomes text.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if hasattr(value, "item"):
        return clean(value.item())
    return clean_text(str(value))
