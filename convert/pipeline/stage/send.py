"""Send the repos, and read them back."""

from dataclasses import replace

from convert.pipeline.run import Run


def send(run: Run) -> Run:
    """Send what is missing, one repo after the other; a dry run sends nothing."""
    if run.is_dry:
        return run
    done = []
    for bundle, survey in zip(run.bundles, run.surveys, strict=True):
        if survey is not None:
            sent = run.destination.send(bundle, survey, run.progress)
            run.destination.read_back(bundle, sent, run.progress)
            done.append(sent)
    return replace(run, published=tuple(done))
