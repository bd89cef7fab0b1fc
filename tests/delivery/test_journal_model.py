"""Two journals on one directory against a plain model of what is stored, over random histories.

The model knows names only: which were put, which are out with a claim, which have come to their end.
"""

import contextlib
import os
import shutil
import tempfile
import traceback
import warnings
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.journals import ALL, Clock, balanced, deliver, event, names, open_journal, profile, segments

from mixpanel_visitor.delivery.journal import frames
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.errors import SpoolFullError

LANES = {"import": event, "engage": profile}
WHO = st.sampled_from(["a", "b"])
LANE = st.sampled_from(sorted(LANES))
LANE_LISTS = st.lists(LANE, min_size=1, max_size=5)
STORED, FULL = 0, 3
PICK = st.integers(0, 10**6)
MAX_BYTES = 6_000
REFUSED = DeadReason(message="refused", status=400)


class JournalModel(RuleBasedStateMachine):
    """Every record that was put is claimed until it is settled, and afterwards only where that is allowed.

    Allowed it is when a leader's end has left a record in front of it that was not settled, and when
    acks.json was lost: delivery is at least once.
    """

    @initialize()
    def begin(self):
        """Open two journals that roll their segments all the time."""
        self.directory = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.clock = Clock()
        self.journals = {"a": self.open(), "b": self.open()}
        self.written = {"a": 0, "b": 0}
        self.number = 0
        self.orders = {}  # for each life of a writer and each lane, what was put, in order
        self.lives = {"a": 0, "b": 0}
        self.children = 0
        self.unsettled = set()
        self.settled = set()
        self.may_repeat = set()
        self.buried = 0
        self.leader = None
        self.out = []  # (claim, indexes that are not settled)

    def open(self):
        """Open a journal with tiny segments that may not hold much in all."""
        return open_journal(
            self.directory, self.clock, segment_bytes=300, segment_age_s=30.0, max_bytes=MAX_BYTES
        )

    def teardown(self):
        """In the end all is delivered, nothing is left, and nothing was made up."""
        if not hasattr(self, "directory"):
            return
        try:
            self.end_of_lead()
            for journal in self.journals.values():
                journal.close()
                assert balanced(journal)
            last = self.open()
            left = [name for lane in LANES for name in deliver(last, lane)]
            assert len(left) == len(set(left))
            assert self.unsettled <= set(left) <= self.unsettled | self.may_repeat
            self.clock.tick(2)
            last.claim("import", 1, 1)
            last.close()
            assert segments(self.directory) == []
            assert last.counts().corrupt_bytes == 0
            assert DeadLetters(self.directory / "dead").count() == self.buried
            for who, journal in self.journals.items():
                counts = journal.counts()
                assert (counts.written, counts.pending, counts.lost) == (self.written[who], 0, 0)
        finally:
            shutil.rmtree(self.directory)

    # --- writing -------------------------------------------------------------------------------

    def records(self, lanes):
        """Make a record for each of `lanes`: what they are called, and they."""
        made = [(lane, str(self.number + number)) for number, lane in enumerate(lanes, 1)]
        self.number += len(made)
        self.clock.tick(0.002)  # so that the order of segments, and with it a history, can be repeated
        return made, [LANES[lane](name) for lane, name in made]

    def stored(self, life, made):
        """These are in the spool, in this order."""
        for lane, name in made:
            self.orders.setdefault((*life, lane), []).append(name)
            self.unsettled.add(name)

    @rule(who=WHO, lanes=LANE_LISTS)
    def put(self, who, lanes):
        """Put a few records, of one lane or both, with one write; where it is full, none of them."""
        with contextlib.suppress(SpoolFullError):
            self.store(who, lanes)

    @rule(who=WHO)
    def fill(self, who):
        """Put until nothing more fits."""
        with contextlib.suppress(SpoolFullError):
            while True:
                self.store(who, ["import", "engage"] * 10)

    def store(self, who, lanes):
        """Put a record for each of `lanes`; raises where it is full."""
        made, records = self.records(lanes)
        self.journals[who].put(records)
        self.stored((who, self.lives[who]), made)
        self.written[who] += len(made)

    @rule(who=WHO, lanes=LANE_LISTS)
    def fork(self, who, lanes):
        """A child puts a few with the journal it has inherited, asks for work, and is killed."""
        made, records = self.records(lanes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of whoever runs the tests
            child = os.fork()
        if not child:
            os._exit(self.live(self.journals[who], records))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (STORED, FULL)
        if status == STORED:
            self.children += 1
            self.stored(("child", self.children), made)

    def live(self, journal, records):
        """The life of a child, to its exit status."""
        try:
            assert journal.counts().written == 0
            if self.leader:
                assert all(journal.claim(lane, 1, ALL) is None for lane in LANES)
            journal.put(records)
        except SpoolFullError:
            return FULL
        except BaseException:  # the parent goes on, and fails
            traceback.print_exc()
            return 1
        return STORED

    @rule(seconds=st.sampled_from([0.1, 1.0, 40.0]))
    def tick(self, seconds):
        """Let time pass: segments grow old, the lead is asked for again."""
        self.clock.tick(seconds)

    # --- the ends of processes -----------------------------------------------------------------

    @rule(who=WHO, tail=st.integers(0, 60))
    def kill(self, who, tail):
        """Forget a journal as if its process were killed, perhaps in the middle of a write."""
        before = set(segments(self.directory))
        writer = self.journals[who]._producer._writer
        path = writer.path if writer else None
        self.journals.pop(who)
        del writer
        if path in before:
            with path.open("ab") as file:
                file.write(frames.encode([event("never acknowledged" + "x" * 60)], 1)[:tail])
        self.replace(who)

    @rule(who=WHO)
    def close(self, who):
        """Close a journal in good order; the same object goes on."""
        if who == self.leader:
            self.end_of_lead()
        self.journals[who].close()

    @rule()
    def lose_acks(self):
        """Delete acks.json; it matters to the next leader only."""
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "acks.json").unlink()
            self.may_repeat |= self.settled

    def replace(self, who):
        """Put a new journal in the place of one that was killed."""
        if who == self.leader:
            self.end_of_lead()
        self.journals[who] = self.open()
        self.written[who] = 0
        self.lives[who] += 1

    def end_of_lead(self):
        """Claims are forgotten; what was settled behind a record that was not may come again."""
        self.leader = None
        self.out = []
        for order in self.orders.values():
            # One that was settled may itself be open again, after acks.json was lost.
            may_be_open = self.unsettled | self.may_repeat
            first = next((index for index, name in enumerate(order) if name in may_be_open), len(order))
            self.may_repeat |= set(order[first:]) & self.settled

    # --- reading -------------------------------------------------------------------------------

    @rule(who=WHO, lane=LANE, count=st.integers(1, 6))
    def claim(self, who, lane, count):
        """Claim from either journal; the one that does not lead gets nothing."""
        claim = self.journals[who].claim(lane, count, ALL)
        leads = self.journals[who].counts().leader
        if leads:
            assert self.leader in (None, who)
            self.leader = who
        if claim is None:
            return
        assert leads
        got = names(claim.bodies)
        assert 0 < len(got) == len(set(got)) <= count
        assert not self.held() & set(got)
        assert set(got) <= self.unsettled | self.may_repeat
        self.out.append((claim, set(range(len(claim)))))

    def held(self):
        """The names that are out with a claim."""
        return {names(claim.bodies)[index] for claim, indexes in self.out for index in indexes}

    def some(self, pick):
        """Choose a claim that is out, and some of its records."""
        claim, left = self.out[pick % len(self.out)]
        indexes = [index for index in sorted(left) if (pick >> index) & 1] or sorted(left)
        left -= set(indexes)
        self.out = [(other, others) for other, others in self.out if others]
        return claim, indexes, {names(claim.bodies)[index] for index in indexes}

    @precondition(lambda self: self.out)
    @rule(pick=PICK)
    def ack(self, pick):
        """Acknowledge a part of a claim."""
        claim, indexes, got = self.some(pick)
        self.journals[self.leader].ack(claim, indexes)
        self.unsettled -= got
        self.settled |= got

    @precondition(lambda self: self.out)
    @rule(pick=PICK)
    def release(self, pick):
        """Return back a part of a claim."""
        claim, indexes, _ = self.some(pick)
        self.journals[self.leader].release(claim, indexes)

    @precondition(lambda self: self.out)
    @rule(pick=PICK)
    def bury(self, pick):
        """Set a part of a claim aside."""
        claim, indexes, got = self.some(pick)
        self.journals[self.leader].bury(claim, dict.fromkeys(indexes, REFUSED))
        self.unsettled -= got
        self.settled |= got
        self.buried += len(got)

    @precondition(lambda self: self.leader)
    @rule()
    def deliver_what_waits(self):
        """Deliver all that is not out with a claim, so that segments come to their end."""
        self.clock.tick(1.0)  # so that it looks for what others have put
        for lane in LANES:
            got = set(deliver(self.journals[self.leader], lane))
            assert got <= self.unsettled | self.may_repeat
            self.unsettled -= got
            self.settled |= got
        assert self.unsettled <= self.held()

    # --- always --------------------------------------------------------------------------------

    @invariant()
    def figures_add_up(self):
        """For each journal, and for the store as the leader sees it."""
        for who, journal in getattr(self, "journals", {}).items():
            counts = journal.counts()
            assert balanced(journal)
            assert counts.written == self.written[who]
            assert counts.lost == 0
            if counts.leader:
                assert who == self.leader
                assert len(self.unsettled) <= counts.store_pending <= len(self.unsettled | self.may_repeat)
            assert counts.corrupt_bytes == 0


JournalModel.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestJournalModel = JournalModel.TestCase
