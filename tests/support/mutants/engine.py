"""Defects of sender, lanes and batches that the tests must notice."""

from . import Mutant

MUTANTS = [
    Mutant(
        defect="a 503 counts as an acknowledgement",
        rows=(13,),
        file="delivery/answers.py",
        old='return Verdict(kind="retry", status_class="server", message=message, wait_s=wait_s)',
        new='return Verdict(kind="delivered", status_class="server", message=message, wait_s=wait_s)',
        test="delivery/test_sender.py::test_an_outage_loses_nothing",
    ),
    Mutant(
        defect="an update in doubt is sent again",
        rows=(12,),
        file="delivery/lane.py",
        old="doubted = once and verdict.unknown",
        new="doubted = once and not verdict.unknown",
        test="delivery/test_sender.py::test_an_update_in_doubt_is_buried",
    ),
    Mutant(
        defect="both kinds of updates go in one request",
        rows=(12,),
        file="delivery/lane.py",
        old="list(runs(self.endpoint, claim.bodies))",
        new="[range(len(claim))]",
        test="delivery/test_sender.py::test_what_may_be_repeated_goes_in_requests_of_its_own",
    ),
    Mutant(
        defect="a name is looked up though it is an address",
        rows=(26,),
        file="delivery/mixpanel_api.py",
        old="self._known = _numeric(self._host, self._port or (443 if self._secure else 80))",
        new="self._known = None",
        test="delivery/test_mixpanel_api.py::test_an_address_needs_no_name_service",
    ),
    Mutant(
        defect="an outage of the name service stops delivery",
        rows=(20,),
        file="delivery/mixpanel_api.py",
        old="if self._secure:  # only",
        new="if False:  # only",
        test="delivery/test_mixpanel_api.py::test_an_outage_of_the_name_service_is_survived",
    ),
    Mutant(
        defect="a leader that stands still is never replaced",
        rows=(21,),
        file="delivery/journal/leadership.py",
        old="return now_s - self._seen_s >= STALLED_AFTER_S",
        new="return False",
        test="delivery/test_leadership.py::test_a_stopped_leader_is_replaced_and_steps_down_when_it_goes_on",
    ),
    Mutant(
        defect="a leader that was replaced goes on",
        rows=(21,),
        file="delivery/journal/leadership.py",
        old="return Identity.of_path(self._path) == self._identity\n        except FileNotFoundError",
        new="return True\n        except FileNotFoundError",
        test="delivery/test_leadership.py::test_the_old_leader_notices",
    ),
    Mutant(
        defect="nobody remembers what was in hand when a process died",
        rows=(32,),
        file="delivery/journal/diary.py",
        old="self._stretches.append(stretch._replace(deaths=deaths))",
        new="self._stretches.append(stretch)",
        test="faults/test_poison.py::test_a_record_that_kills_its_sender_is_set_aside[300-import]",
    ),
    Mutant(
        defect="a death while waiting for Mixpanel is blamed on the records",
        rows=(32,),
        file="delivery/journal/claim_desk.py",
        old="self._diary.end()",
        new="pass",
        test="faults/test_poison.py::test_a_sender_that_dies_while_it_waits_blames_nobody",
    ),
    Mutant(
        defect="all hosts wait for the same time",
        rows=(13,),
        file="delivery/lane.py",
        old="backoff_s(self._failures, self._uniform(1.0, 5.0), verdict.wait_s)",
        new="backoff_s(self._failures, 3.0, verdict.wait_s)",
        test="delivery/test_sender.py::test_twenty_hosts_do_not_come_back_together",
    ),
    Mutant(
        defect="a certificate for another host will do",
        rows=(20,),
        file="delivery/mixpanel_api.py",
        old="        self._connection = connection\n        by_name",
        new="        connection.assert_hostname = False\n        self._connection = connection\n"
        "        by_name",
        test="delivery/test_mixpanel_api.py::test_a_certificate_for_another_host_is_refused",
    ),
    Mutant(
        defect="a put waits for the disk",
        rows=(28,),
        file="delivery/journal/appender.py",
        old="        finally:\n            self.release()\n        if paths:\n"
        "            self._unsynced.extend(self._sync([*paths, self._directory]))",
        new="            self._unsynced.extend(self._sync([*paths, self._directory]))\n"
        "        finally:\n            self.release()",
        test="delivery/test_journal.py::test_a_put_does_not_wait_for_a_slow_disk",
    ),
    Mutant(
        defect="what is given back is forgotten",
        rows=(35,),
        file="delivery/journal/claim_desk.py",
        old="                self._index.give_back(claim.endpoint, _positions(claim, indexes))",
        new="                pass",
        test="delivery/test_journal_model.py::TestJournalModel::runTest",
    ),
    Mutant(
        defect="a child takes over its parent's lead",
        rows=(23, 35),
        file="delivery/journal/journal.py",
        old="        self._sides.abandon()\n        self._sides = self._make_sides()",
        new="        self._sides.pid = os.getpid()",
        test="delivery/test_journal_model.py::TestJournalModel::runTest",
    ),
    Mutant(
        defect="a record that was refused for want of space is there all the same",
        rows=(4, 35),
        file="delivery/journal/appender.py",
        old="            self._space.take(len(data), now_s)\n"
        "            self._append(data, len(records), now_s)",
        new="            self._append(data, len(records), now_s)\n"
        "            self._space.take(len(data), now_s)",
        test="delivery/test_journal_model.py::TestJournalModel::runTest",
    ),
]
