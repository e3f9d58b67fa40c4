"""What a person can do about a failed task: a sentence for each error code."""

CURES = {
    "artifact_damaged": "What the training saved was changed before it was kept. Look at the "
    "worker's disk, and at what else writes there, then run it again.",
    "disk_full": "Free some space on the worker's disk, then run it again.",
    "features_changed": "Look at what else writes to the worker's folder of shared features, "
    "then run it again.",
    "host_lost": "The engine host vanished each time. Look at its machine, then run it again.",
    "invalid_config": "Mend the workflow: “Clone and edit” shows the faults at their lines.",
    "not_kept": "The training's files could not be put in their place. Look at the worker's disk, "
    "the rights of its folders, or the far store of artifacts, then run it again.",
    "not_started": "Look at the worker: its engine host, its disk, its limits. Then run it again.",
    "out_of_memory": "Use fewer instruments, a shorter time or fewer columns, or give the worker "
    "more memory (PLATFORM_TRAINING_MEMORY_BYTES).",
    "record_skipped": "Mend the workflow by “Clone and edit”: the message says what the record "
    "needs. Run again as it is, it would fail again.",
    "timed_out": "Raise platform.timeout_s in the workflow, or make the training shorter.",
    "training_error": "The traceback below names the place in Qlib. Mend the workflow by “Clone "
    "and edit”, then start it.",
    "training_killed": "Something outside the platform ended the process: look at the host's "
    "kernel log, then run it again.",
    "worker_lost": "The worker vanished each time. Look at its host, then run it again.",
}


def cure_of(error_code: str) -> str:
    """What to do. An administrator's own classes may fail by codes of their own."""
    return CURES.get(error_code, "Read the end of the log: it tells more.")
