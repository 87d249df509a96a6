"""Send a report to the store that other machines see."""

from convert.pipeline.run import Run


def push_report(run: Run) -> Run:
    """Send the report's files, if they are below the folder of all artifacts."""
    if run.remote and run.report_folder and run.report_folder.is_relative_to(run.store.root):
        run.remote.push_reports(run.store.root, run.report_folder)
    return run
