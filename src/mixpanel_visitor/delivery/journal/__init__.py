"""The journal: the spool on a local disk, one noun in each file.

```
put   ─▶ producer ─▶ segments, frames            producer_stats: the outcome of these records
claim ─▶ consumer ─▶ leader_lock, segment_index ─▶ segment_reader   offsets: how far delivery has come
         consumer ─▶ in_flight_log: what is being sent          tombstones: whose records must not be sent
bury  ─▶ consumer ─▶ dead_letters                quota, corruption, backlog_estimate: bounds and counts
                                                 directory: who may write there, and what to do about errors
                                                 inspection: the status, for commands
fork  ─▶ per_process: a child gets a producer and a consumer of its own
```
"""

from .journal import Journal as Journal

__all__ = ["Journal"]
