"""The only RQ and Redis: rings, workers, the reconciler."""
