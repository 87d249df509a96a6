"""Send what was built to the store that other machines see."""

from convert.pipeline.run import Run


def push(run: Run) -> Run:
    """Send each artifact that the store lacks and the folder has."""
    remote, recipe = run.remote, run.recipe.name
    for each in run.wanted if remote else ():
        name = each.target.name
        manifest = run.store.current(recipe, name)
        is_here = manifest is not None and run.store.is_up_to_date(recipe, name, each.key)
        if remote and manifest and is_here and not remote.holds(recipe, name, each.key):
            with run.progress.stage("upload", manifest.size_bytes) as advance:
                remote.push(recipe, manifest, run.store.folder(recipe, name), advance)
    return run
