"""Addresses of one database server and of several."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from qlibplatform import database_url, settings


@pytest.mark.parametrize(
    ("servers", "hosts", "ports"),
    [
        ("pg1", "pg1", ""),
        ("pg1:5433", "pg1", 5433),
        ("pg1,pg2", "pg1,pg2", "5432,5432"),
        ("pg1:5433,pg2", "pg1,pg2", "5433,5432"),
        ("10.0.0.1:5433,10.0.0.2:5434", "10.0.0.1,10.0.0.2", "5433,5434"),
        ("[fd00::1]:5433,[fd00::2]:5434", "fd00::1,fd00::2", "5433,5434"),
    ],
)
def test_each_server_comes_with_its_port(servers, hosts, ports):
    told = database_url.parse(
        f"postgresql://q%40b:s@{servers}/qlib?target_session_attrs=read-write"
    )

    assert (told["HOST"], told["PORT"]) == (hosts, ports)
    assert (told["USER"], told["PASSWORD"], told["NAME"]) == ("q@b", "s", "qlib")
    assert told["OPTIONS"] == {"target_session_attrs": "read-write"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://q:s@pg1:x,pg2/qlib",
        "postgresql://q:s@pg1,/qlib",
        "postgresql://q:s@pg1:port/qlib",
        "elsewhere://pg1/qlib",
    ],
)
def test_what_names_no_server_is_refused_and_shows_no_password(url):
    with pytest.raises(ImproperlyConfigured, match="PLATFORM_DATABASE_URL must") as refused:
        database_url.parse(url)

    assert ":s@" not in str(refused.value)


def test_a_server_that_is_gone_without_a_word_is_given_up_within_half_a_minute():
    told = settings.POSTGRES_OPTIONS

    assert told["connect_timeout"] <= 5
    assert told["keepalives_idle"] + told["tcp_user_timeout"] / 1_000 <= 30
