"""`modelwright fleet`: convert, verify and publish recipes on several machines."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from convert.cli.option import OUT, STORE, answering
from convert.cli.text import count, fitting_table
from convert.errors import Exit
from convert.size import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.cli.output import Output
    from convert.fleet.order import Order, Record
    from convert.fleet.schedule import Schedule, Wish
    from convert.pipeline.start import Options


@answering
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="A Ray cluster that is running: auto, HOST:PORT or ray://HOST:PORT; by default one on this machine.",
)
@OUT
@STORE
@click.option(
    "--parts",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Divide each read of a model among so many nodes.",
)
@click.option(
    "--cpus",
    metavar="N",
    type=click.IntRange(min=1),
    help="CPUs of each order; all of the smallest node's by default.",
)
@click.option("--no-publish", "is_private", is_flag=True, help="Publish nothing, whatever the recipes say.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Show the orders and what they cost; start nothing.")
@click.option("--offline", "offline", is_flag=True, help="Use what was downloaded before; no network.")
def command(
    output: Output,
    *,
    recipes: tuple[str, ...],
    address: str | None,
    out: Path,
    store_url: str | None,
    parts: int,
    cpus: int | None,
    is_private: bool,
    is_dry: bool,
    offline: bool,
) -> Exit:
    """Convert, verify and publish recipes on several machines.

    The machines are a Ray cluster. All see the recipes, the models and --out in a shared folder; or, with
    --store, an object store, and --out is each machine's own. What is there already is not made again:
    after a failure or a stop, the same command goes on. An order that fails is tried three times, and
    takes with it only what needs it. The exit code is 1 where an order failed, and 3 where a gate did.

    \b
    one machine:    modelwright fleet a b c
    a cluster:      ray start --head               on the first machine
                    ray start --address HOST:6379  on each of the others
                    modelwright fleet a b c --address auto --out /shared/artifacts
    """
    from convert.cli import fleet_table  # noqa: PLC0415 - the rest brings formats and their codecs
    from convert.fleet.drive import drive  # noqa: PLC0415
    from convert.fleet.ray_nodes import RayNodes  # noqa: PLC0415
    from convert.fleet.schedule import Wish  # noqa: PLC0415
    from convert.formats import load_recipe  # noqa: PLC0415

    loaded = [load_recipe(name) for name in recipes]
    options: Options = {
        "out": out.absolute(),
        "store_url": store_url,
        "offline": offline or None,
        "remark": output.remark,
    }

    def schedules(smallest: int) -> list[Schedule]:
        wish = Wish(out.absolute(), parts, cpus or smallest, offline, not is_private, store_url)
        return _schedules(loaded, wish, options)

    if is_dry:
        planned = schedules(1)
        output.answer(_planned(planned, cpus), lambda: _planned_lines(planned, cpus))
        return Exit.DONE
    # Of a node that dies, Ray prints pages of its state, which belong neither in an answer nor in a table.
    with redirect_stdout(StringIO()), RayNodes(address) as nodes:
        planned = schedules(nodes.cpus())
        orders = [order for each in planned for order in each.orders]
        for order in orders:
            if lacking := nodes.lacking(order):
                output.remark(f"{order.name}: waits for a node with {', '.join(lacking)}")
        with fleet_table.showing(orders, is_shown=not (output.is_json or output.is_quiet)) as tell:
            records = drive(orders, nodes, tell)
    output.answer(_data(records), lambda: _lines(records))
    return _exit_code(records)


def _schedules(recipes: Sequence[Any], wish: Wish, options: Options) -> list[Schedule]:
    from convert.fleet.schedule import schedule  # noqa: PLC0415

    return [schedule(recipe, wish, options) for recipe in recipes]


def _planned(planned: Sequence[Schedule], cpus: int | None) -> dict[str, Any]:
    return {
        "cpus": cpus,  # of each order; None: all of the smallest node's
        "orders": [
            {
                "name": order.name,
                "targets": order.targets,
                "after": order.after,
                "needs": {**order.needs, **({"GPU": 1} if order.wants_gpu else {})},
                "estimated_s": round(order.estimated_s, 1),
                "at_most_s": order.at_most_s,
            }
            for each in planned
            for order in each.orders
        ],
        "read_bytes": sum(each.read_bytes for each in planned),
        "written_bytes": sum(each.written_bytes for each in planned),
        "download_bytes": sum(each.download_bytes for each in planned),
    }


def _planned_lines(planned: Sequence[Schedule], cpus: int | None) -> Iterator[str]:
    orders = [order for each in planned for order in each.orders]
    if not orders:
        yield "everything is up to date"
        return
    rows = [
        (
            order.name,
            str(len(order.targets)),
            f"about {duration(order.estimated_s)}" if order.estimated_s else _limit(order),
            ", ".join([*order.needs, *(["GPU if any"] if order.wants_gpu else [])]),
        )
        for order in orders
    ]
    yield from _table(("order", "artifacts", "takes", "needs"), rows, ("artifacts",), "artifacts")
    yield ""
    yield (
        f"{count(len(orders), 'order')}, each with {cpus or 'all'} CPUs of a node: "
        f"about {duration(sum(order.estimated_s for order in orders))} of work, and verification"
    )
    yield (
        f"{size(sum(each.download_bytes for each in planned))} to download, "
        f"{size(sum(each.read_bytes for each in planned))} to read, "
        f"{size(sum(each.written_bytes for each in planned))} to write"
    )


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], leaving: Sequence[str], right: str
) -> Iterator[str]:
    """Write the columns in which something is said, as many as the terminal has room for."""
    shown = [at for at, _ in enumerate(head) if any(row[at] for row in rows)]
    titles = [head[at] for at in shown]
    leaving = [title for title in leaving if title in titles]
    yield from fitting_table(titles, [[row[at] for at in shown] for row in rows], leaving, right)


def _limit(order: Order) -> str:
    return f"at most {duration(order.at_most_s)}" if order.at_most_s else ""


def _data(records: Mapping[str, Record]) -> dict[str, Any]:
    return {
        "orders": [
            {
                "name": record.order.name,
                "state": record.state,
                "tries": record.tries,
                "node": record.outcome.node if record.outcome else "",
                "wall_s": round(record.wall_s, 2),
                "cpu_s": round(record.cpu_s, 2),
                "gpu_s": round(record.gpu_s, 2),
                "error": record.outcome.error if record.outcome else "",
            }
            for record in records.values()
        ]
    }


def _lines(records: Mapping[str, Record]) -> Iterator[str]:
    rows = [
        (
            record.order.name,
            str(record.state),
            str(record.tries),
            duration(record.wall_s),
            f"{record.cpu_s:.1f} s",
            f"{record.gpu_s:.1f} s" if record.gpu_s else "",
            record.outcome.node if record.outcome else "",
        )
        for record in records.values()
    ]
    if not rows:
        yield "everything is up to date"
        return
    head = ("order", "state", "tries", "wall", "CPU", "GPU", "node")
    yield from _table(head, rows, ("node", "tries", "GPU"), "tries wall CPU GPU")
    for record in records.values():
        if record.outcome and record.outcome.error:
            yield f"{record.order.name}: {record.outcome.error}"
            yield from [f"  {record.outcome.hint}"] * bool(record.outcome.hint)


def _exit_code(records: Mapping[str, Record]) -> Exit:
    from convert.fleet.order import State  # noqa: PLC0415

    states = {record.state for record in records.values()}
    if State.FAILED in states:
        return Exit.FAILED
    return Exit.GATE_FAILED if State.GATE_FAILED in states else Exit.DONE
