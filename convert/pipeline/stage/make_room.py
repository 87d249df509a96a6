"""Make room for the artifacts, and refuse to begin where they will not fit."""

from collections.abc import Iterable

from convert.pipeline.run import Job, Run
from convert.pipeline.transform import transform_cost
from convert.store import require_space

# Manifests, licenses and file-system blocks besides the planned files.
SPARE_BYTES = 16 << 20


def make_room(run: Run) -> Run:
    """Remove what killed builds left, and require that the artifacts' folders and the disk are free."""
    run.store.sweep()
    for job in run.jobs:
        run.store.require_free(run.recipe.name, job.name)
    require_space(run.store.root, disk_bytes(run, run.jobs))
    return run


def disk_bytes(run: Run, jobs: Iterable[Job]) -> int:
    """Add up what must be free on the disk while these are built."""
    planned = [job.planned for job in jobs]
    needed_bytes = sum(each.disk_bytes for each in planned)
    needed_bytes += max((each.learning_disk_bytes for each in planned), default=0)
    transform = transform_cost(run)
    needed_bytes += transform.disk_bytes if planned and transform else 0
    return needed_bytes + SPARE_BYTES if needed_bytes else 0
