"""Bring artifacts, and the report, from the store that other machines see."""

from convert.pipeline.run import Run


def pull(run: Run) -> Run:
    """Fetch each artifact that the store has and the folder lacks, and check its files."""
    remote, recipe = run.remote, run.recipe.name
    if remote is None:
        return run
    for target in run.targets:
        found = remote.manifest(recipe, target.name)
        if found and not run.store.is_up_to_date(recipe, target.name, found[1].key):
            with run.progress.stage("download", found[1].size_bytes) as advance:
                remote.pull(run.store, recipe, target.name, advance)
    folder = run.store.root / recipe
    for kind in run.recipe.verify.classes:
        remote.pull_reports(run.store.root, run.recipe.verify.report_folder(folder, kind))
    return run
