"""Defects in threads and exits of processes that the tests of processes and servers must notice."""

from . import Mutant

MUTANTS: list[Mutant] = [
    Mutant(
        defect="a refused thread is the caller's trouble",
        rows=(24,),
        file="delivery/sender.py",
        old="        except RuntimeError:\n            return False\n        else:",
        new="        except ZeroDivisionError:\n            return False\n        else:",
        test="faults/test_processes.py::test_events_of_the_last_moment_are_kept[refused]",
    ),
    Mutant(
        defect="a put waits for the next one, which never comes at exit",
        rows=(25,),
        file="delivery/journal/appender.py",
        old="            writer.append(data)\n        except OSError:\n            self._seal()",
        new="            held, self._held = getattr(self, '_held', b''), data\n"
        "            writer.append(held)\n        except OSError:\n            self._seal()",
        test="faults/test_processes.py::test_events_of_the_last_moment_are_kept[threads]",
    ),
    Mutant(
        defect="a worker without threads keeps its last event to itself",
        rows=(24,),
        file="delivery/journal/appender.py",
        old="            writer.append(data)\n        except OSError:\n            self._seal()",
        new="            held, self._held = getattr(self, '_held', b''), data\n"
        "            writer.append(held)\n        except OSError:\n            self._seal()",
        test="faults/test_servers.py::test_uwsgi_without_threads_loses_nothing",
    ),
]
