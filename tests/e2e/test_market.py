"""The market of the tests themselves."""

from tests.e2e import market


class Manager:
    """Stands for a platform: remembers the commands."""

    def __init__(self):
        self.commands = []

    def manage(self, *words):
        self.commands.append(words)


def test_without_real_prices_the_demo_market_serves(monkeypatch):
    monkeypatch.delenv("MARKET_DATA", raising=False)
    platform = Manager()

    assert market.import_into(platform).name == "demo"

    assert platform.commands == [("build_demo_market",)]
