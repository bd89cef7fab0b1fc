"""Process: forks, threads, and the end of a process, each known to one module."""
