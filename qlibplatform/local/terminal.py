"""What the person at the terminal sees: the bar of a training, its result, what to do next."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .demo import Event
from .first_start import Account
from .prepare import Place
from .processes import Trouble

METRICS = {
    "ic": "IC",
    "icir": "ICIR",
    "rank_ic": "Rank IC",
    "rank_icir": "Rank ICIR",
    "annualized_return": "Annualized excess return, with cost",
    "information_ratio": "Information ratio, with cost",
    "max_drawdown": "Maximum drawdown, with cost",
    "annualized_return_without_cost": "Annualized excess return, without cost",
    "information_ratio_without_cost": "Information ratio, without cost",
    "max_drawdown_without_cost": "Maximum drawdown, without cost",
    "turnover": "Turnover",
}
PERCENTAGES = ("return", "drawdown", "turnover")


@dataclass
class Pace:
    """How long it still takes, as the platform has measured it; nothing before that is known."""

    stage: str = ""
    left_s: float | None = None
    told_at: float = 0.0
    of_all: bool = False

    def hear(self, event: Event, now: float) -> None:
        """Take in a message; `now` in monotonic seconds."""
        if event["stage"] != self.stage:
            self.stage, self.left_s = event["stage"], None
        data = event.get("data") or {}
        for name, of_all in (("stage_eta_s", False), ("eta_s", True)):
            if data.get(name) is not None:
                self.left_s, self.told_at, self.of_all = data[name], now, of_all

    def text(self, now: float) -> str:
        """Such as "12 s left", or "12 s left in fit"; "" if nothing was measured."""
        if self.left_s is None:
            return ""
        left_s = max(self.left_s - (now - self.told_at), 0)
        # A stage may end before its last unit: a fit that gets no better stops early.
        return (
            f"{left_s:.0f} s left" if self.of_all else f"up to {left_s:.0f} s left in {self.stage}"
        )


class _Left(ProgressColumn):
    """The time left, ticking, of the pace that it was given."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        """Nothing when the training has ended."""
        return Text("" if task.finished else self._pace.text(time.monotonic()), style="cyan")


@dataclass
class Watch:
    """Follows the events of one training: a bar at a terminal, lines elsewhere."""

    console: Console
    pace: Pace = field(default_factory=Pace)
    last: Event | None = None
    metric: str = ""
    count: tuple[str, str] = ("", "")

    def follow(self, events: Iterable[Event | None]) -> Event | None:
        """Show every event until the final one, and answer it."""
        if not self.console.is_terminal:
            return self._follow_in_lines(events)
        bar = Progress(
            TextColumn("[bold]{task.fields[stage]:<9}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>5.1f} %"),
            TextColumn("{task.fields[message]}"),
            TimeElapsedColumn(),
            _Left(self.pace),
            console=self.console,
        )
        with bar:
            row = bar.add_task("", total=100.0, stage="queued", message="")
            for event in events:
                if event is not None:
                    self._hear(event)
                    bar.update(
                        row,
                        completed=event["progress"],
                        stage=event["stage"],
                        message=escape(self._message(event)),
                    )
        return self.last

    def _follow_in_lines(self, events: Iterable[Event | None]) -> Event | None:
        shown: tuple[str, int] = ("", -1)
        for event in events:
            if event is None:
                continue
            self._hear(event)
            step = (event["stage"], int(event["progress"] // 10))
            if step != shown:
                shown = step
                text = f"{event['stage']:<9} {event['progress']:5.1f} %  {self._message(event)}"
                self.console.print(text, markup=False, highlight=False)
        return self.last

    def _hear(self, event: Event) -> None:
        if event["type"] == "metric" and (points := event["data"].get("points")):
            newest = points[-1]
            if newest["value"] is not None:
                self.metric = f"{newest['name']} {newest['value']:.5g}"
        self.pace.hear(event, time.monotonic())
        self.last = event

    def _message(self, event: Event) -> str:
        return ", ".join(text for text in (event["message"], *self._counts(event)) if text)[:60]

    def _counts(self, event: Event) -> list[str]:
        """Such as "iteration 12 of 300" and "valid.l2 0.98"."""
        data = event.get("data") or {}
        if data.get("stage") == event["stage"] and data.get("done") and data.get("unit"):
            of = f" of {data['total']}" if data.get("total") else ""
            self.count = (event["stage"], f"{data['unit']} {data['done']}{of}")
        stage, count = self.count
        return [count if stage == event["stage"] else "", self.metric if stage == "fit" else ""]


def show_result(console: Console, task: dict[str, Any]) -> None:
    """The table of a completed training; the error of any other."""
    if task["status"] != "completed":
        console.print(f"The demo training {task['status']}: {task['error']}", style="red")
        return
    result = task["result"]
    data = result.get("data", {})
    span = f"{data.get('first_day')} to {data.get('last_day')}"
    table = Table(title=f"{task['name'] or task['id']}", title_justify="left", min_width=60)
    table.add_column(f"{task['model']} on {task['dataset']} (synthetic), {span}")
    table.add_column("", justify="right")
    for name, title in METRICS.items():
        if (value := result.get("metrics", {}).get(name)) is not None:
            table.add_row(title, _number(name, value))
    table.add_section()
    for stage, took_s in result.get("timings", {}).items():
        table.add_row(f"seconds in {stage}", f"{took_s:.1f}")
    console.print(table)


def _number(name: str, value: float) -> str:
    if any(word in name for word in PERCENTAGES):
        return f"{value:.2%}"
    return f"{value:.4f}"


def show_account(console: Console, account: Account) -> None:
    """The secrets of the first start: the only time that they are seen."""
    lines = {"user": account.name, "password": account.password, "API token": account.token}
    console.print("\n[bold]Keep these, they are shown only once:[/]")
    for title, secret in lines.items():
        # Whole lines, whatever the width: they are to be copied.
        text = f"  {title:<10} [bold]{escape(secret)}[/]"
        console.print(text, highlight=False, soft_wrap=True)


def show_ready(
    console: Console, place: Place, *, after_s: float, token: str | None, task_id: str | None
) -> None:
    """Where the platform is, and lines to paste. token: if it was made just now."""
    page = f"{place.url}/"
    # Not as markup: an address may have brackets of its own.
    text = Text("\n").append("Ready", "bold green").append(" at ")
    text.append(page, f"bold link {page}").append(f" (up in {after_s:.0f} s)")
    console.print(text, soft_wrap=True)
    bearer = '-H "Authorization: Bearer $TOKEN"'
    lines = [
        f"export TOKEN={token or '…  # the API token of the first start'}",
        f"curl {bearer} -H 'Content-Type: application/yaml' \\\n"
        f"     --data-binary @training/presets/demo.yaml {place.url}/api/train",
        f"curl {bearer} {place.url}/api/tasks",
        f"npx wscat {bearer} -c ws://{place.address}/ws/train/{task_id or 'task-…'}",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    told = f"Logs: {place.log_dir}. Ctrl-C stops everything.\n"
    console.print(told, markup=False, highlight=False, soft_wrap=True)


def show_trouble(console: Console, trouble: Trouble) -> None:
    """A process that dies again and again, with its last words."""
    console.print(
        Panel(
            escape(trouble.last_lines),
            title=f"{trouble.name} dies again and again; the end of {trouble.log}",
            title_align="left",
            border_style="red",
        )
    )
