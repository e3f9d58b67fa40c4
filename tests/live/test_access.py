"""Who may listen: by token or session, from which pages, to which tasks, and for how long."""

import asyncio
import contextlib

import pytest

from tests.live.conftest import close_code, hear
from training.live import authentication, origin

pytestmark = pytest.mark.redis


@pytest.fixture
def people(platform):
    """Owner, staff, stranger; and a task of the owner's."""
    return platform.someone(), platform.someone(is_staff=True), platform.someone()


@pytest.fixture
def path(platform, people):
    return f"/ws/train/{platform.do('task', owner=people[0].name)}"


@pytest.mark.parametrize("by", ["token", "cookie"])
async def test_the_owner_and_staff_may_listen_and_a_stranger_may_not(platform, people, path, by):
    own = f"http://{platform.address}" if by == "cookie" else None
    for who in people[:2]:
        async with platform.connect(path, who, by=by, origin=own) as client:
            assert (await hear(client))["type"] == "snapshot"

    async with platform.connect(path, people[2], by=by, origin=own) as client:
        assert await close_code(client) == 4404


async def test_what_is_not_there_is_refused_like_what_is_not_yours(platform, people):
    for path in ("/ws/train/task-0", "/ws/train/%2e%2e", "/ws/nothing", "/ws/train/a/b", "/"):
        async with platform.connect(path, people[0]) as client:
            assert await close_code(client) == 4404


@pytest.mark.parametrize("path", ["/ws/tasks", "/ws/train/task-0"])
async def test_nobody_is_not_let_in(platform, people, path):
    wrong = people[0].__class__("x", "qp_wrong", "wrong")
    async with platform.connect(path) as client:
        assert await close_code(client) == 4401
    async with platform.connect(path, wrong) as client:
        assert await close_code(client) == 4401
    own = f"http://{platform.address}"
    async with platform.connect(path, wrong, by="cookie", origin=own) as client:
        assert await close_code(client) == 4401


@pytest.mark.parametrize(
    "page",
    ["https://evil.example", "null", "http://localhost:1", "https://{address}", "http://127.0.0.1"],
)
@pytest.mark.parametrize("by", ["token", "cookie"])
async def test_a_foreign_page_is_refused(platform, people, path, by, page):
    foreign = page.format(address=platform.address)

    async with platform.connect(path, people[0], by=by, origin=foreign) as client:
        assert await close_code(client) == 4403


async def test_a_cookie_without_an_origin_is_refused(platform, people, path):
    async with platform.connect(path, people[0], by="cookie") as client:
        assert await close_code(client) == 4403


async def test_a_token_in_the_address_is_nothing(platform, people, path):
    async with platform.connect(f"{path}?token={people[0].token}") as client:
        assert await close_code(client) == 4401


async def test_one_user_has_so_many_sockets_on_one_task(platform, people, path):
    async with _open(platform, [path] * 50, people[0]):
        async with platform.connect(path, people[0]) as client:
            assert await close_code(client) == 4429
        async with platform.connect(path, people[1]) as client:
            assert (await hear(client))["type"] == "snapshot"


async def test_one_user_has_so_many_sockets(platform, people):
    tasks = [platform.do("task", owner=people[0].name) for _ in range(5)]
    paths = [f"/ws/train/{task_id}" for task_id in tasks]

    async with _open(platform, paths[:4] * 50, people[0]):
        async with platform.connect(paths[4], people[0]) as client:
            assert await close_code(client) == 4429
        async with platform.connect("/ws/tasks", people[1]) as client:
            assert (await hear(client))["type"] == "state"


@contextlib.asynccontextmanager
async def _open(platform, paths, who):
    """So many sockets, each let in."""
    clients = await asyncio.gather(*(platform.connect(path, who) for path in paths))
    try:
        await asyncio.gather(*(hear(client) for client in clients))
        yield
    finally:
        await asyncio.gather(*(client.close() for client in clients))


async def test_sockets_close_when_their_right_ends(platform, people, path):
    owner, staff, stranger = people
    own = f"http://{platform.address}"
    by_cookie = await platform.connect(path, staff, by="cookie", origin=own)
    by_token = await platform.connect("/ws/tasks", staff)
    by_owner = await platform.connect(path, owner)

    platform.do("log_out", name=staff.name)
    platform.do("revoke", name=staff.name)
    platform.do("give_to", path.rpartition("/")[2], owner=stranger.name)
    codes = await asyncio.gather(
        *(close_code(client, within_s=30) for client in (by_cookie, by_token, by_owner))
    )

    assert codes == [4401, 4401, 4404]


# ── Without processes ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("page", "host", "is_own"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://LOCALHOST:8000", "localhost:8000", True),
        ("http://localhost", "localhost", True),
        ("http://localhost:80", "localhost", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://train.example", "localhost:8000", True),
        ("https://train.example:444", "localhost:8000", False),
        ("http://localhost:8001", "localhost:8000", False),
        ("https://localhost:8000", "localhost:8000", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("http://evil.example:8000", "evil.example:8000", False),
        ("http://localhost:8000@evil.example", "localhost:8000", False),
        ("http://evil@localhost:8000", "localhost:8000", False),
        ("http://localhost:8000/path", "localhost:8000", False),
        ("http://localhost:99999", "localhost:99999", False),
        ("null", "localhost:8000", False),
        ("file://", "localhost:8000", False),
        ("", "localhost:8000", False),
        ("http://", "", False),
    ],
)
def test_an_origin_is_own_by_scheme_host_and_port(settings, page, host, is_own):
    settings.ALLOWED_ORIGINS = ["https://train.example"]
    settings.HTTPS = False

    assert origin.is_own(page, scope={}, host=host) is is_own


def test_behind_https_the_plain_page_is_foreign(settings):
    settings.HTTPS, settings.ALLOWED_HOSTS = True, ["train.example"]

    assert origin.is_own("https://train.example", scope={}, host="train.example")
    assert not origin.is_own("http://train.example", scope={}, host="train.example")


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"authorization", b"Token abc"), (b"cookie", b"sessionid=k")], None),
        ([(b"authorization", b"Bearer"), (b"cookie", b"sessionid=k")], None),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], None),
        ([(b"cookie", b"a=b; sessionid=k")], "k"),
        ([(b"cookie", b"sessionid=")], None),
        ([], None),
    ],
)
def test_a_token_goes_before_a_cookie(headers, secret):
    shown = authentication.credential_of({"headers": headers})

    assert (shown.secret if shown else None) == secret
