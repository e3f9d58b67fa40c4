"""A file as a download: resumable by one byte range, read block by block.

daphne takes blocks faster than a slow reader does and keeps the difference in memory; a server
with back-pressure (uvicorn, or nginx before it) does not.

Django's FileResponse knows no ranges, and under ASGI it reads the whole file first;
WhiteNoise's ranges refuse a single byte and know no If-Range.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

BLOCK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


def download(request: HttpRequest, path: Path, *, etag: str) -> HttpResponseBase:
    """The file, or the asked part of it, as an attachment.

    etag: without quotes, changes with the content. Raises: OSError.
    """
    size = path.stat().st_size
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.name, safe='')}",
        "Content-Type": "application/octet-stream",
        "ETag": f'"{etag}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return HttpResponse(status=304, headers={"ETag": headers["ETag"]})
    if settings.ACCEL_PREFIX:
        return _handed_over(path, headers)
    part = _part(request, size=size, etag=headers["ETag"])
    if part is None:
        return _answer(request, path, range(size), headers, status=200)
    if not part:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return _answer(request, path, part, headers, status=206)


def _handed_over(path: Path, headers: dict[str, str]) -> HttpResponse:
    """The answer that makes nginx serve the file, with ranges, length and an ETag of its own."""
    inside = path.relative_to(Path(settings.ARTIFACTS_DIR).resolve()).as_posix()
    kept = {name: headers[name] for name in ("Content-Disposition", "Cache-Control")}
    address = settings.ACCEL_PREFIX + quote(inside)
    return HttpResponse(
        headers={**kept, "X-Accel-Redirect": address}, content_type=headers["Content-Type"]
    )


def _part(request: HttpRequest, *, size: int, etag: str) -> range | None:
    """The bytes asked for; None for all of them, empty if there are none such.

    What can't be understood, several ranges too, means the whole file: RFC 9110 allows it.
    """
    asked = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if asked is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last, suffix = asked.groups()
    if suffix is not None:
        return range(max(size - int(suffix), 0), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


def _answer(
    request: HttpRequest, path: Path, part: range, headers: dict[str, str], *, status: int
) -> HttpResponseBase:
    headers["Content-Length"] = str(len(part))
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    return StreamingHttpResponse(_blocks(path, part), status=status, headers=headers)


async def _blocks(path: Path, part: range) -> AsyncIterator[bytes]:
    with await sync_to_async(_opened)(path) as file:
        file.seek(part.start)
        left = len(part)
        while left and (block := await sync_to_async(file.read)(min(left, BLOCK_BYTES))):
            left -= len(block)
            yield block


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")
