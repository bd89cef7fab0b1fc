"""Defects of `durability="delivered"` that the tests must notice; the fault table has no rows of them."""

from . import Mutant

MUTANTS = [
    Mutant(
        defect="a WSGI response does not wait for its events",
        rows=(),
        file="tracking/engine.py",
        old="        self.commit(exchange, in_background=False)\n        if self.waits_for_delivery:",
        new="        self.commit(exchange, in_background=False)\n        if False:",
        test="test_delivered.py::test_wsgi_waits_before_the_body[iterator]",
    ),
    Mutant(
        defect="a WSGI response that is whole does not wait for its events",
        rows=(),
        file="tracking/engine.py",
        old="            if self.waits_for_delivery and not in_background:",
        new="            if False:",
        test="test_delivered.py::test_wsgi_waits_before_the_body[list]",
    ),
    Mutant(
        defect="an ASGI response does not wait for its events",
        rows=(),
        file="asgi.py",
        old="        await loop.run_in_executor(None, engine.wait_for_delivery)",
        new="        pass",
        test="test_delivered.py::test_asgi_waits_before_each_message_that_may_be_the_last",
    ),
    Mutant(
        defect="a background task's events are not waited for",
        rows=(),
        file="asgi.py",
        old="            if self._eager and exchange.has_records:\n                await",
        new="            if False:\n                await",
        test="test_delivered.py::test_asgi_waits_for_what_comes_after_the_response",
    ),
    Mutant(
        defect="the event loop stands still while a response waits",
        rows=(),
        file="asgi.py",
        old="        await loop.run_in_executor(None, engine.wait_for_delivery)",
        new="        engine.wait_for_delivery()",
        test="test_delivered.py::test_asgi_does_not_block_the_loop",
    ),
    Mutant(
        defect="a response waits longer than the time-out",
        rows=(),
        file="tracking/engine.py",
        old="self.pipeline.flush(self.settings.delivery_timeout_s)",
        new="self.pipeline.flush(2 * self.settings.delivery_timeout_s)",
        test="test_delivered.py::test_a_response_waits_no_longer_than_the_timeout",
    ),
    Mutant(
        defect="a time-out counts as a delivery",
        rows=(),
        file="tracking/engine.py",
        old='                self.note("delivery_timeout")',
        new="                pass",
        test="test_delivered.py::test_a_response_waits_no_longer_than_the_timeout",
    ),
    Mutant(
        defect="a request that tracks nothing waits for the events of others",
        rows=(),
        file="wsgi.py",
        old="        if self._eager and self._exchange.has_records:",
        new="        if self._eager:",
        test="test_delivered.py::test_a_request_that_tracks_nothing_waits_for_nothing[iterator]",
    ),
]
