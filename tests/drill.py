"""Makes a small past for the restore drill, by the lifecycle's own moves.

python -m tests.drill        # settings from the environment, tables are there
"""

import hashlib
import json
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qlibplatform.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402

from tests.factories import make_dataset, make_task  # noqa: E402
from training.states import Status  # noqa: E402

CONTENT = b"a model\n" * 1_000


def main() -> dict[str, str]:
    """Three tasks: completed with an artifact, running, pending; their ids by status."""
    owner = User.objects.create_user("owner")
    version = make_dataset(version="a" * 16).version
    place = settings.DATASETS_DIR / "demo" / version
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}")
    digest = hashlib.sha256(CONTENT).hexdigest()
    listed = {"artifacts": [{"path": "m/model", "bytes": len(CONTENT), "sha256": digest}]}
    done = make_task(owner, status=Status.COMPLETED, result={"metrics": {"ic": 0.1}, **listed})
    file = settings.ARTIFACTS_DIR / done.id / "1" / "m" / "model"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    (settings.ARTIFACTS_DIR / done.id / ".2.part").mkdir()
    running, pending = make_task(owner, status=Status.RUNNING), make_task(owner)
    return {"completed": done.id, "running": running.id, "pending": pending.id}


if __name__ == "__main__":
    print(json.dumps(main()))  # noqa: T201 - read by the test that starts it
