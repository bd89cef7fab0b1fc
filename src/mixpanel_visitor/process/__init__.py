"""Process: forks, threads and the end of a process, each asked in one place."""
