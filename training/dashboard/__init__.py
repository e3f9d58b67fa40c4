"""The pages. They work without JavaScript, and come alive with it.

Each view reads its input, calls the core or a service, and fills a template; nothing is decided
here. What a page shows live it hears over the sockets of `training.live`.
"""
