"""The only MLflow server: results are sent on to it after the end, from what was recorded.

A process of its own, `manage.py export_mlflow`, does it, so a training neither waits for MLflow
nor knows that there is one. `outbox` knows which results are due, `records` puts a task into
MLflow's terms, `to_mlflow` speaks to the server, `exporter` leads them.

Where to: `PLATFORM_MLFLOW_TRACKING_URI`. Who we are there: MLflow's own variables
(`MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`), set for
the exporter's process alone, for example by an `EnvironmentFile=` of its unit. Web and workers
do not need them. A training could not read them even from its worker's environment, as the
engine host starts with an empty one.
"""
