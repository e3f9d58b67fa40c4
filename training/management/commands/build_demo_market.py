"""`manage.py build_demo_market`: the synthetic market that the demo training runs on."""

from typing import Any

from django.core.management.base import BaseCommand

from training.management.market_process import import_and_register


class Command(BaseCommand):
    """Build the demo market; built before, it is the same and stays as it is."""

    help = "Build the synthetic demo market (invented prices, always the same)."

    def handle(self, *_: Any, **__: Any) -> None:
        import_and_register(["demo", "--name=demo"], out=self.stdout)
