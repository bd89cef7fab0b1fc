"""`mixpanel-visitor dev`: the local Mixpanel in a terminal."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from mixpanel_visitor.emulator import Arrival, LocalMixpanel, ProfileChange, Rejection, StoredEvent
from mixpanel_visitor.emulator.chaos import KINDS
from mixpanel_visitor.emulator.json_api import change_json, event_json, rejection_json
from mixpanel_visitor.emulator.people import ID_MERGES
from mixpanel_visitor.hosts import is_loopback

from .signals import hold_signals
from .terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.emulator import IdMerge

DEFAULT_PORT = 8484

_MESSAGE_CHARS = 200


@click.command("dev")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--token", help="Accept only this project token; without it any is accepted.")
@click.option(
    "--id-merge",
    type=click.Choice(ID_MERGES),
    default="simplified",
    show_default=True,
    help="How the project merges IDs; /_local/people shows the result.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory to keep the last 50,000 arrivals in, for the next start.",
)
@click.option(
    "--chaos",
    multiple=True,
    metavar="KIND=SHARE",
    help=f"Let a share of requests fail, as in 429=0.1. Kinds: {', '.join(KINDS)}.",
)
@click.option(
    "--flags",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A JSON file with definitions of feature flags, as /flags/definitions has them; read as it changes.",
)
@click.option("--quiet", is_flag=True, help="Print where it listens and nothing more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def command(
    *,
    port: int,
    host: str,
    token: str | None,
    id_merge: IdMerge,
    keep: Path | None,
    chaos: tuple[str, ...],
    flags: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a local Mixpanel until Ctrl-C.

    It takes requests as Mixpanel does, refuses what Mixpanel's documentation says is refused, and shows what
    has arrived: here, on a page, and as JSON under /_local/. Nothing leaves this machine, and nothing is
    written to disk without --keep.
    """
    try:
        local = LocalMixpanel(
            host,
            port,
            token=token,
            allow_remote=True,
            id_merge=id_merge,
            keep=keep,
            chaos=dict(map(_share, chaos)),
            flags=flags,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except BlockingIOError as error:
        raise click.ClickException(f"another local Mixpanel keeps its events in {keep}") from error
    except OSError as error:
        raise click.ClickException(f"cannot keep events in {keep}: {error}") from error
    with hold_signals() as signals, contextlib.closing(local):
        if not quiet:
            local.store.subscribe(_printer(_json_line if as_json else _text_line))
        try:
            local.start()
        except OSError as error:
            raise click.ClickException(_listen_failure(error, host, port)) from error
        _greet(local, as_json=as_json)
        signals.wait()
    if not quiet:
        stats = local.store.stats()
        if as_json:
            click.echo(orjson.dumps({"type": "stopped", "stats": stats}).decode())
        else:
            click.echo(f"Stopped. Events received: {stats['unique']}; refused: {stats['rejected']}.")


def _share(text: str) -> tuple[str, float]:
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError:
        raise ValueError(f"--chaos takes KIND=SHARE, as in 429=0.1, not {text!r}") from None


def _greet(local: LocalMixpanel, *, as_json: bool) -> None:
    if as_json:
        listening = {"type": "listening", "url": local.url, "port": local.port}
        click.echo(orjson.dumps({**listening, "id_merge": local.store.id_merge}).decode())
    else:
        click.echo(f"The local Mixpanel listens. Its page: {local.url}/")
        click.echo(f"The server sends here with:   MIXPANEL_API_HOST={local.url}")
        click.echo(f'The browser sends here with:  mixpanel.init(TOKEN, {{api_host: "{local.url}"}})')
        click.echo("Ctrl-C ends it.")
    if not is_loopback(local.host):
        click.echo(
            f"Warning: {local.host} can be reached from other machines. "
            "Anyone who reaches it can send events here and read what has arrived.",
            err=True,
        )


def _printer(line: Callable[[Arrival], str]) -> Callable[[Sequence[Arrival]], None]:
    def print_lines(arrivals: Sequence[Arrival]) -> None:
        try:
            click.echo("\n".join(map(line, arrivals)))
        except BrokenPipeError:
            # The reader of our lines has ended (`dev | head`), so this ends too.
            signal.raise_signal(signal.SIGTERM)

    return print_lines


def _json_line(arrival: Arrival) -> str:
    match arrival:
        case StoredEvent():
            fields = {"type": "event", **event_json(arrival)}
        case ProfileChange():
            fields = {"type": "profile_update", **change_json(arrival)}
        case Rejection():
            fields = {"type": "rejected", **rejection_json(arrival)}
    return orjson.dumps(fields).decode()


def _text_line(arrival: Arrival) -> str:
    match arrival:
        case StoredEvent(event=event):
            subject: Any = event.distinct_id
            if not subject:
                properties = arrival.properties
                subject = properties.get("$user_id") or properties.get("$device_id") or "(no ID)"
            again = f"  (received {arrival.deliveries} times)" if arrival.deliveries > 1 else ""
            return f"{_clock(event.time_ms)}  {printable(event.name):<24}  {printable(subject)}{again}"
        case ProfileChange(update=update):
            subject = f"{update.group_key}: {update.profile_id}" if update.group_key else update.profile_id
            return f"{_clock(arrival.received_at_ms)}  {update.operation:<24}  {printable(subject)}"
        case Rejection(index=index):
            source = f"/{arrival.endpoint}" + (f" record {index}" if index is not None else "")
            reason = printable(arrival.message, _MESSAGE_CHARS)
            return click.style(f"{_clock(arrival.received_at_ms)}  refused by {source}: {reason}", fg="red")


def _clock(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "milliseconds")[:23]


def _listen_failure(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        next_port = port + 1 if port < 65_535 else 0
        return (
            f"port {port} on {host} is taken. Stop what listens there, or choose another: "
            f"mixpanel-visitor dev --port {next_port}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen at port {port}. Choose one above 1023: mixpanel-visitor dev"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine. Leave --host out, or use 0.0.0.0 for all of them"
    return f"cannot listen at {host}, port {port}: {error}"
