"""Defects of the collector, which takes the browser's events in."""

from __future__ import annotations

from . import Mutant

ADMITTED = "core/test_collector.py"
REFUSED = "tracking/test_collector_endpoint_refused.py"
LIMITED = "tracking/test_collector_endpoint_limits.py"
OF_VISITORS = "tracking/test_collector_endpoint_visitors.py"

MUTANTS = [
    Mutant(
        defect="the collector takes a post of another site",
        rows=(43,),
        file="core/collector/admission.py",
        old="    if not is_same_origin(facts, or_referer=True):",
        new="    if False:",
        test=f"{REFUSED}::test_other_sites",
    ),
    Mutant(
        defect="the collector takes events of another project",
        rows=(43,),
        file="tracking/browser_events.py",
        old="        if token != self._token:",
        new="        if False:",
        test=f"{REFUSED}::test_another_projects_token",
    ),
    Mutant(
        defect="the collector says 200 to what the spool has refused",
        rows=(42,),
        file="tracking/collector_endpoint.py",
        old="            if not engine.pipeline.store_within_share(records, MAX_SHARE):",
        new="            if not engine.pipeline.store_within_share(records, MAX_SHARE) and False:",
        test=f"{REFUSED}::test_what_the_spool_does_not_take",
    ),
    Mutant(
        defect="a large body keeps the interpreter for itself",
        rows=(43,),
        file="process/time_slices.py",
        old="            self._sleep(self._pause_s)",
        new="            pass",
        test="tracking/test_collector_load.py::test_others_run_in_the_middle_of_a_large_body",
    ),
    Mutant(
        defect="a body that was small until it is unpacked is no large one",
        rows=(43,),
        file="tracking/collector_endpoint.py",
        old="        if announced_bytes <= LARGE_BODY_BYTES:",
        new="        if False:",
        test="tracking/test_collector_load.py::test_large_bodies_are_taken_two_a_second",
    ),
    Mutant(
        defect="who sends junk is looked at again and again",
        rows=(43,),
        file="tracking/collector_endpoint.py",
        old="        self._suspects.take(address_key(facts.client), 1.0, self._monotonic())",
        new="        pass",
        test="tracking/test_collector_load.py::test_an_address_that_sends_junk",
    ),
    Mutant(
        defect="signed visitors pay for their neighbours",
        rows=(43,),
        file="tracking/collector_endpoint.py",
        old='            if self._cookie not in facts.header("cookie"):',
        new="            if True:",
        test="tracking/test_collector_load.py::test_signed_visitors_at_an_address_that_sends_junk",
    ),
    Mutant(
        defect="the collector fills the whole spool",
        rows=(43,),
        file="tracking/pipeline.py",
        old="    if fill > max_share:",
        new="    if fill > max_share + 1:",
        test=f"{REFUSED}::test_half_of_the_spool_is_the_servers",
    ),
    Mutant(
        defect="the collector takes events of those who said no",
        rows=(),
        file="tracking/collector_endpoint.py",
        old="        reason = exchange.refusal\n",
        new="        reason = None\n",
        test=f"{OF_VISITORS}::test_who_is_not_tracked",
    ),
    Mutant(
        defect="the collector lets a browser merge people",
        rows=(43,),
        file="tracking/browser_events.py",
        old="        if name == MERGE_EVENT:",
        new="        if False:",
        test=f"{REFUSED}::test_one_bad_event_is_left_out",
    ),
    Mutant(
        defect="the collector takes any number of requests of a visitor",
        rows=(43,),
        file="tracking/collector_endpoint.py",
        old="        if not self._by_visitor.take(",
        new="        if False and not self._by_visitor.take(",
        test=f"{LIMITED}::test_one_visitor_who_sends_too_much",
    ),
    Mutant(
        defect="the collector takes any number of requests of an address",
        rows=(43,),
        file="tracking/collector_endpoint.py",
        old="        if not self._by_address.take(",
        new="        if False and not self._by_address.take(",
        test=f"{LIMITED}::test_one_address_that_sends_too_much",
    ),
    Mutant(
        defect="the rate limit of the collector never ends",
        rows=(),
        file="core/collector/rate_limit.py",
        old="* self._per_s)",
        new="* 0)",
        test=f"{ADMITTED}::test_a_bucket_fills_again",
    ),
]
