"""The captured vectors: every group of them is tested somewhere."""

from pathlib import Path

import pytest
from support.facts import VECTORS

HERE = Path(__file__).parent

COVERED_BY = {
    "js_escape": "test_spid_browser",
    "js_unescape": "test_spid_browser",
    "decodeURIComponent": "test_mixpanel_browser",
    "spid_uid": "test_spid_browser",
    "spid_sig": "test_spid_browser_signatures",
    "spid_cookies": "test_spid_browser",
    "spid_local_storage": "test_spid_browser",
    "spid_not_stored": "test_spid_browser",
    "spid_cookie_invalid": "test_spid_browser",
    "spid_cookie_tampered": "test_spid_browser",
    "mixpanel_cookies": "test_mixpanel_browser",
    "mixpanel_cookie_invalid": "test_mixpanel_browser",
    "mixpanel_plus_sign": "test_mixpanel_browser",
    "mixpanel_seed": "test_mixpanel_browser_seeds",
    "mixpanel_opt_cookie": "test_mixpanel_browser_seeds",
    "mixpanel_cookie_domain": "test_mixpanel_browser_seeds",
    "mixpanel_disallowed_ids": "test_mixpanel_browser",
    "mixpanel_server_identity": "test_identity",
    "cookie_header": "test_request",
    "same_origin_post": "test_handover",
    "prefetch": "test_policy",
}


def test_every_group_of_vectors_has_its_tests():
    """A new group cannot stay untested, and a group that is gone is noticed."""
    assert COVERED_BY.keys() == VECTORS.keys() - {"meta"}


@pytest.mark.parametrize(("group", "module"), COVERED_BY.items())
def test_the_module_named_tests_the_group(group, module):
    """It reads the vectors of the group."""
    assert f'VECTORS["{group}"]' in (HERE / f"{module}.py").read_text()
