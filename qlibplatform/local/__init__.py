"""The platform on one machine, by `make run`: installing, checking, starting, showing, stopping.

Nothing else in the code base imports this package.
"""
