"""Compiles every kernel, so that no training and no user waits for it: part of the installation."""

from training.engine.features import moments, order, regressions, windows

__all__ = ["moments", "order", "regressions", "windows"]
