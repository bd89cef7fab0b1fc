"""The official Node library posts here unchanged, and every method of it is accepted."""

from __future__ import annotations

import pytest
from support import node_sdk
from support.components import needs, needs_module

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = [needs("node"), needs("npm"), needs_module("trustme"), pytest.mark.timeout(150)]


@pytest.mark.parametrize("call", node_sdk.CALLS)
def test_what_it_sends_is_accepted(call, tmp_path, note_sent):
    """Nothing is refused, something arrives; what it was is listed at the end of the run."""
    from support.tls_front import TlsFront

    with LocalMixpanel() as local, TlsFront(local.port, tmp_path) as front:
        node_sdk.run(node_sdk.CALLS[call], front)
        stats = local.store.stats()
        assert local.store.rejections() == []
        assert stats["received"] + stats["profile_updates"] + stats["groups"] > 0
        note_sent(f"mixpanel {node_sdk.VERSION} (Node)", call, local)
