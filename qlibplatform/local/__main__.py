"""`make run`: start the platform in the foreground, show the first training, stop it all."""

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from rich.console import Console

from . import demo, first_start, prepare, terminal
from .prepare import CannotStart, Place
from .processes import Supervisor, adopt_orphans, end_orphans, supervised

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(BaseException):
    """Somebody wants the platform to end. Not an Exception: nothing may take it for an error."""


def main() -> int:
    """Run until told to stop; the exit code."""
    console = Console()
    for number in STOPPING_SIGNALS:
        signal.signal(number, _stop)
    adopt_orphans()
    try:
        _run(console, prepare.place_from(os.environ), started=time.monotonic())
    except CannotStart as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except Stop:
        console.print("Stopped.")
        return 0
    finally:
        end_orphans()
    return 1


def _stop(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: what follows must not be interrupted half-way.
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Not print, which refuses where it interrupts itself; the terminal may be gone, too.
    with suppress(OSError):
        os.write(1, "\nStopping …\n".encode())
    raise Stop


def _run(console: Console, place: Place, *, started: float) -> None:
    prepare.make_folders(place)
    with prepare.hold(place):
        prepare.check_port(place)
        os.environ.update(prepare.settings_for(place, os.environ))
        with supervised(place, os.environ) as supervisor:
            account = _prepare_database(console)
            supervisor.start_platform()
            demo.wait_until_ready(place, look=lambda: _insist(supervisor))
            ready_after_s = time.monotonic() - started
            task_id = _run_demo(console, place, account, supervisor) if account else None
            supervisor.start_rest()
            token = account.token if account else None
            terminal.show_ready(console, place, after_s=ready_after_s, token=token, task_id=task_id)
            _watch(console, supervisor)


def _prepare_database(console: Console) -> first_start.Account | None:
    first_start.migrate()
    if not first_start.has_demo_market():
        first_start.build_demo_market(os.environ)
    account = first_start.create_administrator()
    if account:
        terminal.show_account(console, account)
    return account


def _run_demo(
    console: Console, place: Place, account: first_start.Account, supervisor: Supervisor
) -> str:
    """Submit the demo workflow and show it to its end."""
    client = demo.Client(place, account.token)
    task_id = client.submit()
    console.print(f"\nThe first training, {task_id}, on synthetic prices:", highlight=False)
    events = client.events(task_id, look=lambda: _insist(supervisor))
    terminal.Watch(console).follow(events)
    terminal.show_result(console, client.task(task_id))
    return task_id


def _insist(supervisor: Supervisor) -> None:
    """During the start, a process that dies again and again is the end of it."""
    if not supervisor.alive:
        raise CannotStart("The process runner has ended; see var/log/supervisor.log.")
    for trouble in supervisor.trouble():
        raise CannotStart(
            f"{trouble.name} dies again and again. The end of {trouble.log}:\n{trouble.last_lines}"
        )


def _watch(console: Console, supervisor: Supervisor) -> None:
    """Tell of trouble until somebody stops us. Raises: CannotStart, if supervisord is gone."""
    while supervisor.alive:
        for trouble in supervisor.trouble():
            terminal.show_trouble(console, trouble)
        time.sleep(1)
    raise CannotStart("The process runner has ended, and with it everything else.")


if __name__ == "__main__":
    sys.exit(main())
