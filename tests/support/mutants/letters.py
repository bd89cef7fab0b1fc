"""Defects of the dead letters and of the commands that operate the spool, which the tests must notice."""

from . import Mutant

MUTANTS = [
    Mutant(
        defect="dead letters are added to a file that was just replaced",
        rows=(7,),
        file="delivery/journal/dead_letters.py",
        old="if _is_in_place(fd, path):",
        new="if fd >= 0:",
        test="delivery/test_dead_letters.py::test_nothing_is_added_to_a_file_that_was_just_replaced",
    ),
    Mutant(
        defect="letters that could not be handed over go all the same",
        rows=(7,),
        file="delivery/journal/dead_letters.py",
        old="chosen[:removed]",
        new="chosen",
        test="delivery/test_dead_letters.py::test_what_could_not_be_handed_over_stays",
    ),
    Mutant(
        defect="a retry takes letters out before the spool has them",
        rows=(1,),
        file="cli/spool/dead.py",
        old="take(chosen, put_back):",
        new="take(chosen):",
        test="cli/test_spool.py::test_a_retry_that_is_killed_loses_nothing",
    ),
    Mutant(
        defect="lines that cannot be read are thrown away with any letter",
        rows=(7,),
        file="delivery/journal/dead_letters.py",
        old="            if not unreadable:\n",
        new="            if False:\n",
        test="delivery/test_dead_letters.py::test_lines_that_cannot_be_read_stay_unless_asked",
    ),
    Mutant(
        defect="a look at the spool lets go of the leader's lock",
        rows=(2,),
        file="delivery/journal/inspection.py",
        old="fcntl.LOCK_SH | fcntl.LOCK_NB",
        new="fcntl.LOCK_UN",
        test="cli/test_spool.py::test_status_leaves_the_lead_to_the_leader",
    ),
    Mutant(
        defect="a count goes on where a replaced file left off",
        rows=(7,),
        file="delivery/journal/dead_letters.py",
        old=" or inode != counted_inode:",
        new=":",
        test="delivery/test_dead_letters.py::test_the_count_notices_that_a_file_was_replaced",
    ),
]
