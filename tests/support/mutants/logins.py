"""Defects of the log-ins that frameworks tell of, which the tests must notice; no rows of the fault table."""

from . import Mutant

MUTANTS = [
    Mutant(
        defect="a log-out of nobody makes another visitor",
        rows=(),
        file="tracking/logins.py",
        old='if getattr(user, "is_authenticated", False) and self._id_of',
        new="if self._id_of",
        test="test_flask_login.py::test_a_function_is_not_asked_who_nobody_is",
    ),
    Mutant(
        defect="an impersonation is a log-in",
        rows=(),
        file="django/logins.py",
        old=" or (_site_notes_last_login and not _notes_last_login()):",
        new=":",
        test="django/test_impersonation.py::test_an_impersonation_changes_nobody",
    ),
    Mutant(
        defect="the end of an impersonation is a log-out",
        rows=(),
        file="django/logins.py",
        old=" and not _ends_impersonation(request):",
        new=":",
        test="django/test_impersonation.py::test_an_impersonation_changes_nobody",
    ),
    Mutant(
        defect="a log-in without the middleware raises",
        rows=(),
        file="django/logins.py",
        old="    if not isinstance(visitor, Visitor) or (",
        new="    if (",
        test="django/test_logins.py::test_a_log_in_without_our_middleware",
    ),
    Mutant(
        defect="a log-in in an application without visitors raises",
        rows=(),
        file="flask.py",
        old="    if logins is not None and visitor is not None:",
        new="    if True:",
        test="test_flask_login.py::test_a_log_in_without_visitors",
    ),
    Mutant(
        defect="who is not to be identified is reset when he logs out",
        rows=(),
        file="tracking/logins.py",
        old=" and self._id_of(user, request) is not None:\n            visitor.reset()",
        new=":\n            visitor.reset()",
        test="test_flask_login.py::test_a_function_says_which_id",
    ),
    Mutant(
        defect="a function that fails makes the log-in fail",
        rows=(),
        file="tracking/logins.py",
        old="        except Exception:\n            self._log(",
        new="        except AssertionError:\n            self._log(",
        test="test_flask_login.py::test_a_function_that_fails",
    ),
]
