"""The only Channels: what happens to a task goes to the sockets that watch it."""
