#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    """Run a management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")
    if sys.argv[1:2] in (["migrate"], ["restore"]):
        # An index over many rows takes longer than any request may.
        os.environ.setdefault("PLATFORM_STATEMENT_TIMEOUT_MS", "0")
    from django.core.management import execute_from_command_line
    from environs import EnvError

    try:
        execute_from_command_line(sys.argv)
    except EnvError as error:
        # It names the setting; a traceback would hide that.
        sys.exit(str(error))


if __name__ == "__main__":
    main()
