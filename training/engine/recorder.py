"""Qlib's recorder, kept by us: artifacts go to a folder, curves to the reporter, no MLflow store.

Qlib wants three classes (manager, experiment, recorder) since MLflow has three levels. A training
has one of each, made by `qlib.init` and found by Qlib's models and records through `R`.
"""

import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from qlib.utils.exceptions import LoadObjectError
from qlib.utils.serial import Serializable
from qlib.workflow.exp import Experiment
from qlib.workflow.expm import ExpManager
from qlib.workflow.recorder import Recorder

from training.engine.artifacts import ArtifactFolder
from training.engine.curves import Curves

NAME = "training"


class FolderRecorder(Recorder):  # type: ignore[misc]
    """What records and models write in one training; `metrics` holds the newest value by name."""

    def __init__(self, *, artifacts: ArtifactFolder, curves: Curves) -> None:
        super().__init__(NAME, NAME)
        self.id = NAME
        self.artifacts = artifacts
        self.curves = curves
        self.metrics: dict[str, float] = {}
        self.params: dict[str, Any] = {}
        self.tags: dict[str, Any] = {}

    def start_run(self) -> None:
        self.status = Recorder.STATUS_R

    def end_run(self, status: str = Recorder.STATUS_S) -> None:
        self.status = status

    def save_objects(
        self, local_path: str | None = None, artifact_path: str | None = None, **objects: Any
    ) -> None:
        """Pickle each object under its name, or copy a file; below the folder `artifact_path`."""
        if local_path is not None:
            self.log_artifact(local_path, artifact_path)
        for name, value in objects.items():
            dump = partial(Serializable.general_dump, value)
            self.artifacts.write(_join(artifact_path, name), dump)

    def log_artifact(self, local_path: str, artifact_path: str | None = None) -> None:
        source = Path(local_path)
        self.artifacts.write(_join(artifact_path, source.name), partial(shutil.copyfile, source))

    def load_object(self, name: str, unpickler: type[pickle.Unpickler] = pickle.Unpickler) -> Any:
        """Raises: LoadObjectError, which Qlib's records expect where there is no such object."""
        try:
            with self.artifacts.locate(name).open("rb") as file:
                return unpickler(file).load()
        except (OSError, ValueError, pickle.UnpicklingError) as error:
            raise LoadObjectError(f"no artifact {name!r}") from error

    def log_metrics(self, step: int | None = None, **metrics: Any) -> None:
        """With a step: points of curves. Without: results, kept for the end."""
        values = {name: float(value) for name, value in metrics.items()}
        if step is not None:
            self.curves.add_from_qlib(step, values)
            return
        self.metrics.update(values)

    def list_artifacts(self, artifact_path: str | None = None) -> list[str]:
        """Paths below the root of what lies directly in `artifact_path`, as MLflow lists them."""
        folder = self.artifacts.root / (artifact_path or "")
        if not folder.is_dir():
            return []
        return sorted(str(entry.relative_to(self.artifacts.root)) for entry in folder.iterdir())

    def download_artifact(self, path: str, dst_path: str | None = None) -> str:
        return str(self.artifacts.locate(path))

    def log_params(self, **params: Any) -> None:
        self.params.update(params)

    def set_tags(self, **tags: Any) -> None:
        self.tags.update(tags)

    def delete_tags(self, *keys: str) -> None:
        for key in keys:
            self.tags.pop(key, None)

    def list_metrics(self) -> dict[str, float]:
        return self.metrics

    def list_params(self) -> dict[str, Any]:
        return self.params

    def list_tags(self) -> dict[str, Any]:
        return self.tags


class OneRecorderExperiment(Experiment):  # type: ignore[misc]
    """The experiment around the one recorder; asks for others by name find nothing."""

    def __init__(self, recorder: FolderRecorder) -> None:
        super().__init__(NAME, NAME)
        self.active_recorder: FolderRecorder | None = None
        self.recorder = recorder

    def start(self, **_: Any) -> FolderRecorder:
        self.active_recorder = self.recorder
        self.recorder.start_run()
        return self.recorder

    def end(self, recorder_status: str = Recorder.STATUS_S) -> None:
        if self.active_recorder is not None:
            self.active_recorder.end_run(recorder_status)
            self.active_recorder = None

    def list_recorders(self, rtype: str = Experiment.RT_D, **_: Any) -> Any:
        return {self.recorder.id: self.recorder} if rtype == self.RT_D else [self.recorder]

    def _get_recorder(self, recorder_id: Any = None, recorder_name: Any = None) -> FolderRecorder:
        if NAME not in (recorder_id, recorder_name):
            raise ValueError("a training has one recorder and no other")
        return self.recorder


class OneExperimentManager(ExpManager):  # type: ignore[misc]
    """What `qlib.init` gets as `exp_manager`; `uri` is the artifacts' folder."""

    def __init__(self, uri: str, recorder: FolderRecorder) -> None:
        super().__init__(uri, NAME)
        self.active_experiment: OneRecorderExperiment | None = None
        self.experiment = OneRecorderExperiment(recorder)

    def _start_exp(self, **_: Any) -> OneRecorderExperiment:
        self.active_experiment = self.experiment
        self.experiment.start()
        return self.experiment

    def _end_exp(self, recorder_status: str = Recorder.STATUS_S) -> None:
        if self.active_experiment is not None:
            self.active_experiment.end(recorder_status)
            self.active_experiment = None

    def _get_exp(self, experiment_id: Any = None, experiment_name: Any = None) -> Any:
        if NAME not in (experiment_id, experiment_name):
            raise ValueError("a training has one experiment and no other")
        return self.experiment

    def list_experiments(self) -> dict[str, OneRecorderExperiment]:
        return {NAME: self.experiment}


def _join(artifact_path: str | None, name: str) -> str:
    return f"{artifact_path}/{name}" if artifact_path else name
