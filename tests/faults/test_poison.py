"""A record that kills the process which sends it: found, set aside, and all others are delivered."""

import json

import pytest
from support.journals import run_python

SCRIPT = r"""
import json, logging, os, resource, sys, tempfile
from pathlib import Path
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.records import Record

logging.disable()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
endpoint, records, dies = sys.argv[1], int(sys.argv[2]), sys.argv[3]
body = b'{"event":"e","properties":{"$insert_id":"%d"}}' if endpoint == "import" else b'{"$set":{"n":%d}}'
bodies = [body % number for number in range(records)]
poison = bodies[records // 3]
READY = Response(status=200, body=b'{"code":200,"status":1}', sent=True)


def send(directory, pipe):
    journal = Journal(directory)

    def post(endpoint, bodies):
        if dies == "in hand" and poison in bodies:
            os.abort()
        journal.note_sent()  # as `MixpanelAPI` says that the request has left
        if dies == "while waiting" and poison in bodies:
            os.abort()
        os.write(pipe, b"".join(body + b"\n" for body in bodies))
        return READY

    sender = Sender(journal, post, crash_tracking=journal, poll_s=0)
    sender.drain(20)
    print_out = journal.counts()
    journal.close()
    os._exit(0 if not print_out.store_pending else 1)


with tempfile.TemporaryDirectory() as temporary, open(Path(temporary, "sent"), "w+b") as sent:
    directory = Path(temporary, "spool")
    journal = Journal(directory)
    journal.put([Record(endpoint, body) for body in bodies])
    journal.close()
    deaths = 0
    while deaths < 12:
        child = os.fork()
        if not child:
            send(directory, sent.fileno())
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        deaths += 1
    sent.seek(0)
    arrived = sent.read().splitlines()
    letters = [file.read_text() for file in sorted((directory / "dead").glob("*"))]
    dead = [json.loads(line) for line in "".join(letters).splitlines()]
    print(json.dumps({
        "deaths": deaths,
        "missing": len(set(bodies) - set(arrived)),
        "poison_arrived": poison in arrived,
        "dead": [(json.dumps(d["record"], separators=(",", ":")).encode() == poison, d["reason"])
                 for d in dead],
    }))
"""


@pytest.mark.parametrize("endpoint", ["import", "engage"])
@pytest.mark.parametrize("records", [1, 300, 2_000])
def test_a_record_that_kills_its_sender_is_set_aside(endpoint, records):
    """After five deaths it lies in the dead letters, and every other record has arrived."""
    seen = json.loads(run_python(SCRIPT, endpoint, records, "in hand"))
    assert seen == {
        "deaths": 5,
        "missing": 1,
        "poison_arrived": False,
        "dead": [[True, "poison: the process that sends it has died 5 times"]],
    }


def test_a_sender_that_dies_while_it_waits_blames_nobody():
    """Whoever is killed while Mixpanel does not answer has not died of a record: all are kept."""
    seen = json.loads(run_python(SCRIPT, "import", 300, "while waiting"))
    assert (seen["deaths"], seen["dead"]) == (12, [])
