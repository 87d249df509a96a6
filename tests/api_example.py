"""Convert and verify the embedded model, and print what came of it."""

from __future__ import annotations

from pathlib import Path

from convert import Failure, Options, Report, convert_recipe, load_recipe, plan_recipe, verify_recipe


def build(name: str, options: Options) -> Report:
    """Plan, convert and verify a recipe."""
    recipe = load_recipe(name)
    plan = plan_recipe(recipe, **options)
    print(f"{plan.model} ({plan.family}): {plan.written_bytes:,} bytes to write")
    for artifact in convert_recipe(recipe, **options).artifacts:
        print(f"{artifact.target}: {artifact.status} in {artifact.folder}")
    return verify_recipe(recipe, **options)


def main(out: Path) -> bool:
    """Print each check that failed; say whether all passed."""
    try:
        report = build("tiny", {"only": ["gguf-Q8_0"], "out": out, "offline": True})
    except Failure as failure:
        for problem in failure.problems:
            print(f"{problem.message} ({problem.hint})")
        return False
    for artifact in report.artifacts:
        for check in artifact.failures:
            print(f"{artifact.name}: {check.name}: {check.why}")
    return report.passed


if __name__ == "__main__":
    raise SystemExit(not main(Path("artifacts")))
