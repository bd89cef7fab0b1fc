"""Defects of visitors who travel: into jobs, and to other services."""

from __future__ import annotations

from . import Mutant

RESUME = "tracking/test_resume.py"
SERVICES = "test_services.py"

MUTANTS = [
    Mutant(
        defect="nobody asks who has opted out since",
        rows=(),
        file="tracking/visitor_exports.py",
        old="        if self._opted_out_since(ids, visitor.exported_at_ms):",
        new="        if False and ids:",
        test=f"{RESUME}::test_who_opts_out_before_the_job_runs_is_not_tracked",
    ),
    Mutant(
        defect="a job of a job is young again",
        rows=(),
        file="tracking/visitor_exports.py",
        old="if exported_at_ms is None else exported_at_ms",
        new="if True else exported_at_ms",
        test=f"{RESUME}::test_a_job_of_a_job_is_as_old_as_the_request",
    ),
    Mutant(
        defect="a log-in of a job joins the device",
        rows=(),
        file="core/detached_exchange.py",
        old="        if self.exported_at_ms is not None and not linked:",
        new="        if False:",
        test=f"{RESUME}::test_no_log_in_of_a_job_joins_anybody",
    ),
    Mutant(
        defect="events of a job wait for the end of its block",
        rows=(),
        file="core/detached_exchange.py",
        old="        if self.exported_at_ms is not None:\n            return\n",
        new="",
        test=f"{RESUME}::test_events_are_durable_at_once",
    ),
    Mutant(
        defect="who may not be tracked is exported",
        rows=(),
        file="tracking/visitor_exports.py",
        old="        if refusal is not None:\n            self._counters.note",
        new="        if False:\n            self._counters.note",
        test=f"{RESUME}::test_who_may_not_be_tracked_is_exported_as_nothing",
    ),
    Mutant(
        defect="a text of another project is believed",
        rows=(),
        file="core/exported_visitor.py",
        old="self._signer = make_signer(secret_keys, _SALT + token.encode())",
        new="self._signer = make_signer(secret_keys, _SALT)",
        test="core/test_exported_visitor.py::test_another_project_is_not_believed",
    ),
    Mutant(
        defect="opt-outs are forgotten with the last record",
        rows=(),
        file="delivery/journal/opt_out_history.py",
        old="            self._tombstones.prune(now_ms - OPT_OUTS_KEPT_S * 1000)",
        new="            self._tombstones.prune(now_ms)",
        test="delivery/test_tombstones.py::test_who_has_opted_out_is_known_for_eight_days",
    ),
    Mutant(
        defect="any network is believed",
        rows=(),
        file="core/carried_exchange.py",
        old="        if not self._services.knows(facts.client):",
        new="        if False:",
        test=f"{SERVICES}::test_strangers_and_browsers_are_not_believed",
    ),
    Mutant(
        defect="a browser is believed",
        rows=(),
        file="core/carried_exchange.py",
        old="        if any(facts.header(name) for name in _BROWSERS_SEND):",
        new="        if False:",
        test=f"{SERVICES}::test_strangers_and_browsers_are_not_believed",
    ),
    Mutant(
        defect="a redirect takes the header to another host",
        rows=(),
        file="requests.py",
        old="            request = request.copy()\n",
        new="",
        test=f"{SERVICES}::test_a_host_that_is_not_named_is_not_told",
    ),
    Mutant(
        defect="any host is told",
        rows=(),
        file="tracking/visitor_header.py",
        old="    if not host or not is_named(",
        new="    if not host or False and not is_named(",
        test=f"{SERVICES}::test_a_host_that_is_not_named_is_not_told",
    ),
]
