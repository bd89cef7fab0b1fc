"""Defects of the spool in Redis that its tests must notice."""

from . import Mutant

SPOOL = "delivery/redis_streams/redis_spool.py"
STREAMS = "delivery/redis_streams/streams.py"
FAULTS = "faults/test_redis.py::"
OWN = "delivery/test_redis_spool.py::"

MUTANTS = [
    Mutant(
        defect="what Redis does not take is dropped",
        rows=(29,),
        file="delivery/fallback.py",
        old="            self._diverted = True\n            self._divert(records)",
        new="            self._diverted = True",
        test=FAULTS + "test_redis_is_killed_and_comes_back",
    ),
    Mutant(
        defect="what is new overtakes what waits on the host",
        rows=(29,),
        file="delivery/fallback.py",
        old="self._diverted = left",
        new="self._diverted = False",
        test=FAULTS + "test_redis_refuses",
    ),
    Mutant(
        defect="what an earlier process left on the host is forgotten",
        rows=(29,),
        file="delivery/fallback.py",
        old="self._diverted: bool | None = None\n",
        new="self._diverted: bool | None = False\n",
        test=FAULTS + "test_what_an_earlier_process_has_left_on_the_host_goes_first",
    ),
    Mutant(
        defect="a group that was destroyed is made anew at the end",
        rows=(29,),
        file=STREAMS,
        old='client.xgroup_create(stream, GROUP, "0")',
        new='client.xgroup_create(stream, GROUP, "$")',
        test=FAULTS + "test_the_consumer_group_is_destroyed",
    ),
    Mutant(
        defect="what was flushed counts as delivered",
        rows=(29,),
        file="delivery/redis_streams/books.py",
        old="            self._own.flushed(stream, in_hand, before)",
        new="            pass",
        test=FAULTS + "test_redis_is_emptied",
    ),
    Mutant(
        defect="nobody asks how full Redis is",
        rows=(29,),
        file="delivery/redis_streams/books.py",
        old="if self._share > FULL_SHARE:",
        new="if self._share > 10:",
        test=FAULTS + "test_redis_is_nearly_full",
    ),
    Mutant(
        defect="replicas are not waited for",
        rows=(30,),
        file=STREAMS,
        old="if replicas < self._replicas:",
        new="if replicas < 0:",
        test=FAULTS + "test_a_replica_that_stands_still_stores_nothing",
    ),
    Mutant(
        defect="an entry is read by everybody",
        rows=(31,),
        file=STREAMS,
        old='client.xreadgroup(GROUP, self.consumer, {stream: ">"}, count=count)',
        new='client.xread({stream: "0"}, count=count)',
        test=FAULTS + "test_two_workers_do_not_get_the_same",
    ),
    Mutant(
        defect="what is settled of an entry is not noted",
        rows=(31,),
        file=STREAMS,
        old='it.hset(f"{stream}:settled", entry_id, text)',
        new="it.ping()",
        test=FAULTS + "test_a_worker_is_killed_in_the_middle",
    ),
    Mutant(
        defect="nobody takes over from the dead",
        rows=(31,),
        file=SPOOL,
        old="elif self._is_time_to_tend(endpoint):",
        new="elif not endpoint:",
        test=FAULTS + "test_a_worker_is_killed_in_the_middle",
    ),
    Mutant(
        defect="updates in doubt are not told of",
        rows=(31,),
        file=SPOOL,
        old="if entry.from_dead and not",
        new="if not entry.from_dead and not",
        test=FAULTS + "test_a_worker_is_killed_in_the_middle",
    ),
    Mutant(
        defect="at a stop nothing is given back",
        rows=(31,),
        file=SPOOL,
        old="            self._streams.give_back(stream, entry_ids)",
        new="            pass",
        test=FAULTS + "test_two_workers_do_not_get_the_same",
    ),
    Mutant(
        defect="who is alive loses what is in hand",
        rows=(31,),
        file=STREAMS,
        old="                client.xclaim(stream, GROUP, self.consumer, 0, sorted(own), justid=True)",
        new="                pass",
        test=OWN + "test_who_is_alive_keeps_what_is_in_hand",
    ),
    Mutant(
        defect="two workers update a profile at a time",
        rows=(31,),
        file=STREAMS,
        old="return found > 0, found == 2",
        new="return True, False",
        test=OWN + "test_a_profile_is_updated_by_one_worker_at_a_time",
    ),
    Mutant(
        defect="an answer that was lost is never asked for again",
        rows=(31,),
        file=STREAMS,
        old='and each["message_id"] not in in_hand',
        new='and each["consumer"] != self.consumer.encode()',
        test=OWN + "test_an_answer_that_was_lost_on_its_way_is_asked_for_again",
    ),
]
