"""Defects of what is said to Mixpanel and made of its answers, which the joined tests must notice."""

from . import Mutant

_TESTS = "faults/test_mixpanel.py::"

MUTANTS = [
    Mutant(
        defect="how far delivery has come is not noted",
        rows=(2,),
        file="delivery/journal/offsets.py",
        old="        if not self._changed:\n            return\n        temporary",
        new="        if self._changed:\n            return\n        temporary",
        test="faults/test_killed_leader.py",
    ),
    Mutant(
        defect="a claim is noted as if it were delivered",
        rows=(2,),
        file="delivery/journal/segment_reader.py",
        old="records.mark = max(records.mark, self.scanned if oldest is None else oldest)",
        new="records.mark = self.scanned",
        test="faults/test_killed_leader.py",
    ),
    Mutant(
        defect="a request that has no end is waited for",
        rows=(11,),
        file="delivery/sending/request_attempt.py",
        old="        self._sock.settimeout(self._deadline.remaining_s())",
        new="        self._sock.settimeout(self._deadline._step_s)",
        test=_TESTS + "test_a_mixpanel_that_does_not_finish_its_answer_costs_only_time[trickling]",
    ),
    Mutant(
        defect="a request without an answer counts as delivered",
        rows=(11, 12),
        file="delivery/sending/responses.py",
        old="    if status == 0 or (response.failure and status in (200, 400)):",
        new="    if response.sent and status == 0:\n"
        '        return Verdict(kind="delivered", status_class="ok")\n'
        "    if status == 0 or (response.failure and status in (200, 400)):",
        test=_TESTS + "test_a_line_that_breaks_loses_nothing[reading_then_resetting-1]",
    ),
    Mutant(
        defect="what is sent again was written anew",
        rows=(12,),
        file="delivery/sending/send_queue.py",
        old="        return [self.claim.bodies[index] for index in self.indexes]",
        new='        return [self.claim.bodies[index].replace(b":", b": ") for index in self.indexes]',
        test=_TESTS + "test_a_line_that_breaks_loses_nothing[taking_then_resetting-2]",
    ),
    Mutant(
        defect="an answer that broke off is believed",
        rows=(12, 15),
        file="delivery/sending/responses.py",
        old="        return _received(endpoint, response, records, now_s)",
        new='        return Verdict(kind="delivered", status_class="ok")',
        test=_TESTS + "test_nonsense_is_no_acknowledgement[half an answer]",
    ),
    Mutant(
        defect="after trouble the next try comes at once",
        rows=(13,),
        file="delivery/sending/retry_policy.py",
        old="        self._retries += 1\n        self.pause(wait_s, reason)\n",
        new="        self._retries += 1\n",
        test=_TESTS + "test_hours_of_trouble_lose_nothing[503 Service Unavailable]",
    ),
    Mutant(
        defect="a rate limit for events stops everything",
        rows=(14,),
        file="delivery/sending/sender.py",
        old="                    wait_s = worker.step(ends_s)\n",
        new="                    wait_s = worker.step(ends_s)\n"
        "                    if not worker.idle and wait_s > 0:\n                        break\n",
        test=_TESTS + "test_a_rate_limit_for_events_does_not_hold_profiles_up",
    ),
    Mutant(
        defect="refused records are sent again",
        rows=(16,),
        file="delivery/sending/endpoint_worker.py",
        old="            self._settlements.dead_letter(batch.claim, dead)",
        new="            self._settlements.release(batch.claim, sorted(dead))",
        test=_TESTS + "test_refused_records_are_set_aside_once[$insert_id-False]",
    ),
    Mutant(
        defect="the index is believed where Mixpanel names an ID in its other spelling",
        rows=(16,),
        file="delivery/sending/responses.py",
        old='reported_id = entry.get("insert_id") or',
        new="reported_id =",
        test=_TESTS + "test_refused_records_are_set_aside_once[insert_id-True]",
    ),
    Mutant(
        defect="a batch that is too large is cut at every answer anew",
        rows=(17,),
        file="delivery/sending/endpoint_worker.py",
        old="                self._limits.too_large(request_bytes(batch.bodies), verdict.limit_bytes)\n"
        "                self._queue.shrink(self._limits.max_bytes)",
        new="                self._queue.bisect()",
        test=_TESTS + "test_a_limit_on_the_size_of_a_request_is_learned[True]",
    ),
    Mutant(
        defect="a poison is looked for one record after the other",
        rows=(18,),
        file="delivery/sending/endpoint_worker.py",
        old="                self._queue.bisect()",
        new="                self._queue.cut(1)",
        test=_TESTS + "test_one_poison_is_found_among_two_thousand",
    ),
    Mutant(
        defect="with a wrong token the records are poison",
        rows=(19,),
        file="delivery/sending/responses.py",
        old="300 <= status < 400:\n        return _misconfigured(response)",
        new="300 <= status < 400:\n        return _refused(response, {}, records, now_s)",
        test=_TESTS + "test_a_wrong_token_sets_nothing_aside[401 Unauthorized]",
    ),
    Mutant(
        defect="no certificate is looked at",
        rows=(20,),
        file="delivery/sending/http_client.py",
        old='"cert_reqs": "CERT_REQUIRED"',
        new='"cert_reqs": "CERT_NONE"',
        test=_TESTS + "test_without_a_good_certificate_nothing_is_said[expired]",
    ),
    Mutant(
        defect="where TLS fails it goes on without",
        rows=(20,),
        file="delivery/sending/http_client.py",
        old="        connection.connect()\n        return connection",
        new="        try:\n            connection.connect()\n        except Exception:\n"
        "            from urllib3.connection import HTTPConnection\n"
        "            self._connection = connection = HTTPConnection(connection.host, connection.port)\n"
        "            connection.connect()\n        return connection",
        test=_TESTS + "test_tls_never_becomes_plain",
    ),
    Mutant(
        defect="nobody remembers what must not be sent twice",
        rows=(2,),
        file="delivery/journal/in_flight_log.py",
        old="        self._unresolved = self._sending if once else []",
        new="        self._unresolved = []",
        test="faults/test_killed_leader.py::test_what_must_not_be_applied_twice_is_set_aside_instead",
    ),
    Mutant(
        defect="what was not admitted stays in doubt",
        rows=(2,),
        file="delivery/sending/endpoint_worker.py",
        old="        if once:\n            self._transport.settled()",
        new="",
        test=_TESTS + "test_an_update_that_was_not_admitted_is_not_in_doubt",
    ),
]
