"""RedisSpool: the spool of several machines, in Redis Streams.

What a journal forwards (`delivery/forwarding.py`), and what waits for Redis, is added as compressed bundles.
Workers of one consumer group take bundles, deliver, and delete what Mixpanel has acknowledged. `client` knows
how Redis is reached, `streams` what is said to it (and how many may be sent a second, over all workers),
`codec` what an entry holds, `in_flight` what this process has claimed, `producer_stats` what became of its
own records, `forwarded` what became of those that another process has forwarded, `stats` counts and room,
`tombstones` who has opted out, `heartbeat` and `takeover` what happens to the entries of the dead,
`config_check` which settings of Redis would lose records.
"""

from .redis_spool import RedisSpool

__all__ = ["RedisSpool"]
