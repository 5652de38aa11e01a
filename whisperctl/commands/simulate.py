"""`whisperctl simulate`: what a trace of sessions would cost, and who would wait, by the real decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whisperctl.errors import UsageError, codes
from whisperctl.output import errors_as_json, print_json

if TYPE_CHECKING:
    from chalicelib.domain.night import Night

KINDS = ("office", "evenings", "events", "scattered", "bursts")
REGIMES = ("ours", "always_on", "nightly_only", "by_hand", "optimum")


@click.command(epilog=f"Example: whisperctl simulate --generate bursts --learn --json\n\n{codes(0, 2)}")
@click.option(
    "--trace", type=click.Path(dir_okay=False, path_type=Path), help="CSV with the columns start and minutes."
)
@click.option("--generate", type=click.Choice(KINDS), help="A made trace instead.")
@click.option("--days", type=click.IntRange(1, 366), default=28, show_default=True, help="Length of a made trace.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same trace.")
@click.option("--idle-minutes", type=click.FloatRange(1, 240), default=10.0, show_default=True)
@click.option(
    "--learn/--fixed",
    default=True,
    show_default=True,
    help="Let the linger follow the gaps, as the stack does; or hold --idle-minutes.",
)
@click.option("--night", metavar="HOURS", help="Closed hours, for example '22:00-06:00 Europe/Berlin'.")
@click.option("--compare", is_flag=True, help="A table of idle minutes, and the recommended ones.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.png",
    help="Draw it; with --compare the trade of each setting too. Needs matplotlib.",
)
@click.option("--machines", type=click.IntRange(1, 10), default=2, show_default=True, help="GPU and standbys.")
@click.option("--boot-seconds", type=click.FloatRange(1, 3600), default=60.0, show_default=True)
@click.option("--service-seconds", type=click.FloatRange(0, 3600), default=20.0, show_default=True)
@click.option("--stop-seconds", type=click.FloatRange(0, 3600), default=30.0, show_default=True)
@click.option("--type", "machine_type", default="g4dn.xlarge", show_default=True, help="For the price.")
@click.option("--price", type=click.FloatRange(0, min_open=True), help="Dollars an hour.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@errors_as_json
def simulate(
    trace: Path | None,
    generate: str | None,
    days: int,
    seed: int,
    idle_minutes: float,
    learn: bool,
    night: str | None,
    compare: bool,
    plot: Path | None,
    machines: int,
    boot_seconds: float,
    service_seconds: float,
    stop_seconds: float,
    machine_type: str,
    price: float | None,
    as_json: bool,
) -> None:
    """Play a trace of sessions on a virtual clock: GPU hours, dollars and waits, against other ways to run it."""
    from chalicelib.domain.ledger import PRICES_PER_HOUR
    from chalicelib.domain.rules import Rules
    from whisperctl.simulate.compare import compared, settings_table
    from whisperctl.simulate.run import Plant
    from whisperctl.simulate.traces import generate as made
    from whisperctl.simulate.traces import read_csv

    if (trace is None) == (generate is None):
        raise UsageError("give either --trace FILE or --generate KIND")
    dollars = price if price is not None else PRICES_PER_HOUR.get(machine_type)
    if dollars is None:
        raise UsageError(f"the price of {machine_type} is not known here; give --price DOLLARS_PER_HOUR")
    sessions = read_csv(trace) if trace is not None else made(str(generate), days, seed)
    if not sessions:
        raise UsageError("the trace has no session in it; take more --days")
    rules = Rules(idle_s=idle_minutes * 60, night=_night(night))
    plant = Plant(machines, boot_seconds, service_seconds, stop_seconds)
    report = compared(sessions, rules, plant, dollars, learn=learn)
    if compare:
        report |= settings_table(sessions, rules, plant, dollars)
    if plot is not None:
        from whisperctl.simulate.compare import admitted
        from whisperctl.simulate.plot import plot as draw
        from whisperctl.simulate.run import simulate as run

        served = admitted(sessions, rules)
        draw(plot, served, run(served, rules, plant, learn=learn), report)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _night(hours: str | None) -> Night | None:
    from chalicelib.domain.night import Night

    try:
        return Night.parse(hours) if hours else None
    except ValueError as error:
        raise UsageError(f"--night: {error}") from error


def _show(report: dict[str, Any]) -> None:
    idle = f"{report['idle_minutes']:g} idle minutes{' at most, learned' if report['learned'] else ''}"
    refused = f", {report['refused']} of them refused for the night" if report["refused"] else ""
    click.echo(f"{report['sessions']} sessions in {report['days']} days{refused}; {idle}")
    click.echo(f"{'':<14}{'GPU hours':>10}{'cost':>10}{'wait p50':>10}{'p90':>8}{'max':>9}{'cut':>5}")
    for name in REGIMES:
        _line(name.replace("_", " "), report[name])
    click.echo(f"{report['ratio_to_optimum']:.2f} times the optimum's GPU hours")
    for row in report.get("table", ()):
        _line(f"idle {row['idle_minutes']:g} min", row)
    if "learned" in report and "table" in report:
        _line("learned", report["learned_row"])
    if "recommended_idle_minutes" in report:
        click.echo(f"recommended: {report['recommended_idle_minutes']:g} idle minutes")


def _line(name: str, row: dict[str, Any]) -> None:
    waits = f"{row['wait_p50_s']:>9.0f}s{row['wait_p90_s']:>7.0f}s{row['wait_max_s']:>8.0f}s"
    cost = f"${row['cost']:.2f}"
    click.echo(f"{name:<14}{row['gpu_hours']:>10.1f}{cost:>10}{waits}{row['sessions_cut']:>5}")
