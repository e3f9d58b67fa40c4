"""The Django project: settings, routes and the local start-up."""
