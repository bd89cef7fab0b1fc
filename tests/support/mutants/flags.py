"""Defects of feature flags: another variant than Mixpanel's, too many exposures, lost definitions."""

from __future__ import annotations

from . import Mutant

RULES = "core/test_flags.py"
VISITORS = "tracking/test_flags.py"
REFRESHER = "delivery/test_flag_refresher.py"

MUTANTS = [
    Mutant(
        defect="everybody is in each rollout",
        rows=(),
        file="core/flags/evaluator.py",
        old="normalized_hash(text, salt) < rollout.share",
        new="True",
        test=f"{RULES}::test_it_selects_what_the_official_library_selects",
    ),
    Mutant(
        defect="all rollouts of a flag have one salt",
        rows=(),
        file="core/flags/evaluator.py",
        old='f"{flag.key}{flag.salt}{index}"',
        new='f"{flag.key}{flag.salt}0"',
        test=f"{RULES}::test_it_selects_what_the_official_library_selects",
    ),
    Mutant(
        defect="an ID of one request draws a variant",
        rows=(),
        file="tracking/flags.py",
        old="passing=frozenset(passing))",
        new="passing=frozenset())",
        test=f"{VISITORS}::test_who_is_not_tracked_gets_what_everybody_gets_and_is_not_exposed",
    ),
    Mutant(
        defect="a malformed definition replaces the last good one",
        rows=(),
        file="core/flags/definitions.py",
        old="            if key in before.flags:",
        new="            if False:",
        test=f"{RULES}::test_the_last_definition_that_could_be_read_is_kept",
    ),
    Mutant(
        defect="a log-in in mid-request flips the variant",
        rows=(),
        file="tracking/flags.py",
        old="    if decisions is None:\n        scope.flag_decisions",
        new="    if True:\n        scope.flag_decisions",
        test=f"{VISITORS}::test_a_log_in_in_mid_request_flips_nothing",
    ),
    Mutant(
        defect="each request sends its exposure",
        rows=(),
        file="core/flags/exposures.py",
        old="        if insert_id in self._sent:",
        new="        if False:",
        test=f"{VISITORS}::test_a_visitor_is_exposed_once_a_day",
    ),
    Mutant(
        defect="bots and people who are not tracked are exposed",
        rows=(),
        file="tracking/flags.py",
        old="        if scope.refusal is not None or scope.is_bot:",
        new="        if False:",
        test=f"{VISITORS}::test_who_is_not_tracked_gets_what_everybody_gets_and_is_not_exposed",
    ),
    Mutant(
        defect="a job evaluates what its request has decided",
        rows=(),
        file="tracking/engine.py",
        old="            self._flags.restore(exchange, exported.flags)",
        new="            pass",
        test=f"{VISITORS}::test_a_job_sees_what_its_request_saw",
    ),
    Mutant(
        defect="fetched definitions are not shared",
        rows=(),
        file="delivery/flags/refresher.py",
        old="            self._share(self._known)\n",
        new="",
        test=f"{REFRESHER}::test_the_process_that_leads_fetches_once_a_minute",
    ),
]
