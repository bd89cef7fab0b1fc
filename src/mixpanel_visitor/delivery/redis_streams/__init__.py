"""RedisSpool: the spool of several machines, in Redis Streams.

Records come from the journal that forwards them (`delivery/forwarding.py`), or straight from requests, and
are added as compressed bundles. Workers of one consumer group claim bundles, deliver them, and delete what
Mixpanel has acknowledged. `client` connects; `streams` has the commands (and the rate limit of all workers);
`codec` reads and writes entries; `in_flight` has what this process has claimed; `producer_stats` counts the
records that this process has put, `forwarded` those of them that another process has forwarded, `stats` all,
with the free space; `tombstones` has the opt-outs; `heartbeat` and `takeover` deal with consumers that have
died; `config_check` finds settings of Redis that would lose records.
"""

from .redis_spool import RedisSpool

__all__ = ["RedisSpool"]
