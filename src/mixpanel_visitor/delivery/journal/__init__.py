"""The journal: the spool on a local disk, one noun in each file.

```
put   ─▶ appender ─▶ segments, frames            own_segments: what became of what was put here
claim ─▶ claim_desk ─▶ leadership, segment_index ─▶ segment_reader     acks: how far delivery has come
bury  ─▶ claim_desk ─▶ dead_letters              space, damage, census: bounds and figures
                                                 place: who may write there, and what to do about errors
```
"""

from .journal import Journal as Journal

__all__ = ["Journal"]
