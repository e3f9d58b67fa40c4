"""The signal's one receiver here: committed events go out to the sockets."""


def connect() -> None:
    """Listen to `events.recorded`."""
