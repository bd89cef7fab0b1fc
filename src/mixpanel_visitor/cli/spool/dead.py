"""`mixpanel-visitor spool dead`: what Mixpanel has refused: look at it, send it again, or throw it away."""

from __future__ import annotations

import datetime as dt
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mixpanel_visitor.cli.terminal import escaped, printable
from mixpanel_visitor.core.events.record_builder import PROFILE_OPERATIONS
from mixpanel_visitor.errors import SpoolError
from mixpanel_visitor.quoting import several

from .dead_letter_stores import dead_letter_stores
from .location import AS_JSON, SPOOL, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mixpanel_visitor.delivery.dead_letter import DeadLetter

    from .dead_letter_stores import DeadLetterStore

_REASON_CHARS = 200


@click.group("dead")
def dead() -> None:
    """Look at dead letters, send them again, or throw them away.

    A dead letter is a record that Mixpanel has refused. Its number never changes. The beginning of a number
    is enough where no other number begins with it.
    """


def _with_selection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters."""
    for option in (
        click.option("--reason", metavar="TEXT", help="Those with this text in their reason."),
        click.option("--all", "everything", is_flag=True, help="All of them."),
        click.argument("id_prefixes", nargs=-1, metavar="[NUMBER]..."),
    ):
        function = option(function)
    return function


@dead.command("list")
@click.option("--reason", metavar="TEXT", help="Only those with this text in their reason.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="How many of the newest to show; 0: all.",
)
@SPOOL
@AS_JSON
def list_dead_letters(*, reason: str | None, limit: int, location: str | None, as_json: bool) -> None:
    """List dead letters, oldest first, a line each.

    Number, time, endpoint, event or operation, reason, field, HTTP status. With --json an object a line.
    """
    newest: deque[_Entry] = deque(maxlen=limit or None)
    matching = 0
    for entry in _entries(dead_letter_stores(location)):
        if _matches_reason(entry.dead_letter, reason):
            matching += 1
            newest.append(entry)
    if not as_json and matching > len(newest):
        click.echo(f"({matching - len(newest):,} older ones are not shown; --limit 0 shows all)")
    for entry in newest:
        click.echo(json.dumps(entry.summary()) if as_json else entry.line())


@dead.command("show")
@click.argument("id_prefix", metavar="NUMBER")
@SPOOL
@AS_JSON
def show(*, id_prefix: str, location: str | None, as_json: bool) -> None:
    """Show one dead letter: the whole record, and why it was refused."""
    stores = dead_letter_stores(location)
    (chosen_id,) = _by_id_prefix(stores, [id_prefix])
    entry = next(entry for entry in _entries(stores) if entry.dead_letter.id == chosen_id)
    if as_json:
        click.echo(json.dumps({**entry.summary(), "record": _parse_body(entry.dead_letter)}))
        return
    for name, value in entry.summary().items():
        click.echo(f"{name:<9} {printable(value, 10_000)}")
    record = json.dumps(_parse_body(entry.dead_letter), indent=2, ensure_ascii=False)
    click.echo(f"\n{escaped(record)}")


@dead.command("retry")
@_with_selection
@SPOOL
@AS_JSON
def retry(
    *, id_prefixes: tuple[str, ...], everything: bool, reason: str | None, location: str | None, as_json: bool
) -> None:
    """Put dead letters back into the spool, byte for byte, to be sent again.

    A letter leaves the dead letters only once the spool has it. If this is interrupted nothing is lost, and
    some may be sent twice.
    """
    stores = dead_letter_stores(location, to_change=True)
    chosen = _select(stores, id_prefixes, everything=everything, reason=reason)
    put_back_count, error_text, has_no_leader = 0, "", False
    with progress(len(chosen), "Putting back", quiet=as_json) as step:
        try:
            for store in stores:
                with store.spool() as put:

                    def put_back(dead_letters: Sequence[DeadLetter], put: Callable[..., None] = put) -> None:
                        nonlocal put_back_count
                        put(dead_letters)
                        put_back_count += len(dead_letters)
                        step(len(dead_letters))

                    for _ in store.dead_letters.take(chosen, put_back):
                        has_no_leader = has_no_leader or not store.is_led
        except (SpoolError, OSError, ValueError) as error:
            error_text = str(error)
    if as_json:
        click.echo(json.dumps({"put_back": put_back_count, "error": error_text or None}))
    else:
        dead_letters = several(len(chosen), "dead letter was", "dead letters were")
        click.echo(f"{put_back_count:,} of {dead_letters} put back into the spool.")
        if has_no_leader:
            click.echo("No process delivers at the moment: they wait until one of the application does.")
    if error_text:
        raise click.ClickException(printable(error_text, 1000))


@dead.command("purge")
@_with_selection
@click.option("--yes", is_flag=True, help="Do not ask.")
@SPOOL
@AS_JSON
def purge(
    *,
    id_prefixes: tuple[str, ...],
    everything: bool,
    reason: str | None,
    yes: bool,
    location: str | None,
    as_json: bool,
) -> None:
    """Delete dead letters, for good. Those that arrive while it asks are kept."""
    stores = dead_letter_stores(location, to_change=True)
    chosen = _select(stores, id_prefixes, everything=everything, reason=reason)
    if (chosen or everything) and not yes:
        click.confirm(f"Throw away {several(len(chosen), 'dead letter')} for good?", abort=True, err=True)
    removed_count = 0
    with progress(len(chosen), "Throwing away", quiet=as_json) as step:
        try:
            for store in stores:
                for removed in store.dead_letters.take(chosen, unreadable=everything):
                    removed_count += removed
                    step(removed)
        except (SpoolError, OSError) as error:
            raise click.ClickException(f"{_removed_text(removed_count)}, then: {error}") from error
    click.echo(json.dumps({"purged": removed_count}) if as_json else f"{_removed_text(removed_count)}.")


def _removed_text(count: int) -> str:
    return f"{several(count, 'dead letter was', 'dead letters were')} thrown away"


@dataclass(frozen=True, slots=True)
class _Entry:
    project: str
    dead_letter: DeadLetter

    def summary(self) -> dict[str, Any]:
        dead_letter = self.dead_letter
        return {
            "number": dead_letter.id,
            "project": self.project,
            "time": _time_text(dead_letter.time_ms),
            "endpoint": dead_letter.endpoint,
            "name": _event_name(dead_letter),
            "reason": dead_letter.reason.message,
            "field": dead_letter.reason.field,
            "status": dead_letter.reason.status,
        }

    def line(self) -> str:
        summary = self.summary()
        return "  ".join(
            (
                summary["number"],
                summary["time"],
                f"{summary['endpoint']:<6}",
                f"{printable(summary['name']):<20}",
                printable(summary["reason"], _REASON_CHARS),
                printable(summary["field"] or "-"),
                str(summary["status"] or "-"),
            )
        )


def _entries(stores: Sequence[DeadLetterStore]) -> Iterator[_Entry]:
    try:
        for store in stores:
            for dead_letter in store.dead_letters.entries():
                yield _Entry(store.name, dead_letter)
    except OSError as error:
        raise click.ClickException(
            f"the dead letters cannot be read: {error}. Run this as their owner."
        ) from error
    except SpoolError as error:
        raise click.ClickException(f"the dead letters cannot be read: {error}") from error


def _select(
    stores: Sequence[DeadLetterStore], id_prefixes: tuple[str, ...], *, everything: bool, reason: str | None
) -> frozenset[str]:
    """Return the IDs of the dead letters that the options choose."""
    if [bool(id_prefixes), everything, reason is not None].count(True) != 1:
        raise click.UsageError("choose dead letters: by numbers, --all, or --reason TEXT")
    if id_prefixes:
        return _by_id_prefix(stores, id_prefixes)
    return frozenset(
        entry.dead_letter.id for entry in _entries(stores) if _matches_reason(entry.dead_letter, reason)
    )


def _by_id_prefix(stores: Sequence[DeadLetterStore], id_prefixes: Sequence[str]) -> frozenset[str]:
    ids = {entry.dead_letter.id for entry in _entries(stores)}
    chosen = set()
    for id_prefix in id_prefixes:
        matching = [full_id for full_id in ids if id_prefix and full_id.startswith(id_prefix.lower())]
        if len(matching) > 1:
            raise click.UsageError(
                f"{len(matching)} numbers begin with {printable(id_prefix)}: give more of it"
            )
        if not matching:
            raise click.ClickException(f"there is no dead letter {printable(id_prefix)} (any more)")
        chosen.add(matching[0])
    return frozenset(chosen)


def _matches_reason(dead_letter: DeadLetter, text: str | None) -> bool:
    return text is None or text.casefold() in dead_letter.reason.message.casefold()


def _time_text(time_ms: int) -> str:
    try:
        return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(time_ms)  # a person has edited the file


def _parse_body(dead_letter: DeadLetter) -> Any:
    try:
        return json.loads(dead_letter.body)
    except (ValueError, RecursionError):
        return dead_letter.body.decode("utf-8", "backslashreplace")


def _event_name(dead_letter: DeadLetter) -> str:
    """Return the name of the event, or the operation of the profile update."""
    record = _parse_body(dead_letter)
    if not isinstance(record, dict):
        return "?"
    if dead_letter.endpoint == "import":
        return str(record.get("event", "?"))
    return next((operation for operation in PROFILE_OPERATIONS if operation in record), "?")
