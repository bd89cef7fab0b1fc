"""Defects in threads and exits of processes that the tests of processes and servers must notice."""

from . import Mutant

MUTANTS: list[Mutant] = [
    Mutant(
        defect="a refused thread is the caller's trouble",
        rows=(24,),
        file="process/threads.py",
        old="    except RuntimeError:\n        return None",
        new="    except ZeroDivisionError:\n        return None",
        test="faults/test_processes.py::test_events_of_the_last_moment_are_kept[refused]",
    ),
    Mutant(
        defect="a put waits for the next one, which never comes at exit",
        rows=(25,),
        file="delivery/journal/producer.py",
        old="            writer.append(data)\n        except OSError:\n            self._seal()",
        new="            held, self._held = getattr(self, '_held', b''), data\n"
        "            writer.append(held)\n        except OSError:\n            self._seal()",
        test="faults/test_processes.py::test_events_of_the_last_moment_are_kept[threads]",
    ),
    Mutant(
        defect="a worker without threads keeps its last event to itself",
        rows=(24,),
        file="delivery/journal/producer.py",
        old="            writer.append(data)\n        except OSError:\n            self._seal()",
        new="            held, self._held = getattr(self, '_held', b''), data\n"
        "            writer.append(held)\n        except OSError:\n            self._seal()",
        test="faults/test_servers.py::test_uwsgi_without_threads_loses_nothing",
    ),
    Mutant(
        defect="a fork that Python has not seen goes unnoticed",
        rows=(23,),
        file="delivery/journal/per_process.py",
        old="return self._pairs.get(os.getpid()) or self._create_pair()",
        new="return next(iter(self._pairs.values()), None) or self._create_pair()",
        test="delivery/test_journal_processes.py::test_a_child_writes_its_own_segment[libc]",
    ),
    Mutant(
        defect="a child stores once more what its parent was about to store",
        rows=(23,),
        file="delivery/journal/per_process.py",
        old="            pair.close_inherited()\n        self._pairs.clear()",
        new="            self._pairs = {os.getpid(): pair}",
        test="faults/test_forks.py::test_a_fork_in_the_middle_of_a_request_sends_nothing_twice",
    ),
    Mutant(
        defect="a fork does not wait for an import of another thread",
        rows=(23,),
        file="process/imports.py",
        old="if self._lock.acquire(timeout=FORK_TIMEOUT_S):",
        new="if self._lock.acquire(blocking=False):",
        test="process/test_imports.py::test_a_fork_waits_for_an_import_of_another_thread",
    ),
    Mutant(
        defect="the lock of before gevent's patch is kept",
        rows=(26,),
        file="delivery/sending/sender.py",
        old="        if self._locks_stale:\n",
        new="        if False:\n",
        test="faults/test_processes.py::test_gevent_may_patch_before_or_after_we_are_imported[after]",
    ),
]
