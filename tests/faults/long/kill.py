"""Rows 1 and 2 at length: kill -9 of writers and of the leader among them, then count."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import HERE, Result, ask, counting, running, say
from support.waiting import wait_until

from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters

if TYPE_CHECKING:
    from argparse import Namespace

WRITERS = 3
PER_PUT = 50
LEADER_SHARE = 0.4
ROUND_S = 0.5
STILL_S = 20
COLUMNS = (
    "kill -9",
    "of the leader",
    "accepted events",
    "lost",
    "altered",
    "surviving dedupe",
    "delivered again",
    "not accepted, but there",
    "left to the last process",
    "set aside and sent again",
    "seconds",
    "seed",
)


news = threading.Condition()


class Writer:
    """One process, and what it has acknowledged."""

    def __init__(self, number: int, port: int, spool: Path, stack: ExitStack) -> None:
        self.number = number
        self.accepted = 0
        self.asked = 0
        self.leads = False
        self.process = stack.enter_context(
            running(
                HERE / "writer.py",
                port,
                spool,
                number,
                PER_PUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, puts: int) -> None:
        """Ask for so many puts."""
        self.asked += puts * PER_PUT
        stream: Any = self.process.stdin
        stream.write(b"." * puts)
        stream.flush()

    def kill(self) -> None:
        """Kill -9, and read what it had said until then."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        stream: Any = self.process.stdout
        for line in stream:
            number, leads = line.split()
            with news:
                self.accepted, self.leads = int(number), leads == b"1"
                news.notify()


def _stopped(writers: list[Writer]) -> RuntimeError:
    for writer in writers:
        say(f"writer {writer.number}: {writer.accepted} accepted of {writer.asked} asked for")
        if writer.process.poll() is None:
            writer.process.send_signal(signal.SIGUSR1)  # it prints where it is
            wait_until(lambda: False, 0.5)
    return RuntimeError("the writers have stopped")


def retry_dead_letters(spool: Path) -> int:
    """Put back what was set aside because five processes were killed while they sent it; return how many."""
    number = DeadLetters(spool / "dead").count()
    if number:
        command = (
            sys.executable,
            "-m",
            "mixpanel_visitor",
            "spool",
            "dead",
            "retry",
            "--all",
            "--spool",
            spool,
        )
        subprocess.run(command, check=True)
    return number


def run(options: Namespace) -> Result:
    """Kill until the rounds are over, deliver the rest, count."""
    chance = random.Random(options.seed)
    rounds, goal = options.rounds or 300, options.events or 1_000_000
    began_s = time.monotonic()
    writers: list[Writer] = []
    gone: list[Writer] = []
    leaders = 0
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        directory = Path(place)
        port = stack.enter_context(counting(directory))

        def add() -> None:
            writers.append(Writer(len(writers) + len(gone), port, directory / "spool", stack))

        def accepted() -> int:
            return sum(writer.accepted for writer in writers + gone)

        for _ in range(WRITERS):
            add()
        for done in range(rounds):
            wanted = goal * (done + 1) // rounds
            left = max(1, -(-(wanted - accepted()) // PER_PUT))
            wait_until(lambda: False, chance.uniform(0, ROUND_S))  # meanwhile there is delivery to kill
            # Somewhere in the middle of what is asked for: some puts are always under way. Worked out before
            # they are asked for, since writers are fast enough to have done some of it a line later.
            enough = accepted() + int(chance.uniform(0.3, 1.0) * left * PER_PUT)
            for writer in writers:
                writer.ask(-(-left // WRITERS) + chance.randrange(10))
            with news:  # told at once: a moment later they would all be done, and be killed idle
                in_time = news.wait_for(lambda enough=enough: accepted() >= enough, STILL_S)
            if not in_time:
                raise _stopped(writers)
            leading = [writer for writer in writers if writer.leads]
            victim = chance.choice(writers)
            if leading and chance.random() < LEADER_SHARE:
                victim = leading[0]
            leaders += victim.leads
            writers.remove(victim)
            victim.kill()
            gone.append(victim)
            add()
            if (done + 1) % 50 == 0:
                say(f"kill: round {done + 1}, {accepted()} accepted")
        while (missing := goal - accepted()) > 0:
            before = accepted()
            for writer in writers:
                writer.ask(-(-missing // PER_PUT // WRITERS) or 1)
            if not wait_until(lambda before=before: accepted() > before, STILL_S):
                raise _stopped(writers)
            wait_until(lambda: accepted() >= goal, 20)
        for writer in writers:
            writer.kill()
        arrived = ask(port, "/figures")["received"]
        with running(HERE / "writer.py", port, directory / "spool", "drain") as last:
            drained = last.wait(400) == 0
        set_aside = retry_dead_letters(directory / "spool")
        if set_aside:
            with running(HERE / "writer.py", port, directory / "spool", "drain") as last:
                drained = last.wait(400) == 0 and drained
        told = {str(writer.number): writer.accepted for writer in writers + gone}
        found = ask(port, "/verify", told)
        total = accepted()
    row = (
        rounds,
        leaders,
        total,
        found["lost"],
        found["altered"],
        found["surviving"],
        found["redelivered"],
        found["distinct"] - (total - found["lost"]),
        max(0, found["distinct"] + found["redelivered"] - arrived),
        set_aside,
        round(time.monotonic() - began_s),
        options.seed,
    )
    missed = [f"{found[what]} {what}" for what in ("lost", "altered", "surviving") if found[what]]
    if not drained:
        missed.append("the last process did not empty the spool")
    return Result("kill", COLUMNS, [row], missed)
