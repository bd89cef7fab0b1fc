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
]
