"""Release: the name and the version of this package."""

NAME = "mixpanel-visitor"

VERSION = "0.2.0.dev0"
"""Here, for the build reads it: to ask the installed metadata costs each process some 20 ms at its start.

A frozen, zipped or vendored copy without metadata knows its version as well.
"""
