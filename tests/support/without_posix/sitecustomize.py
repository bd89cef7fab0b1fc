"""Take from this process, and from those that it starts, what Python does not have on Windows.

With this directory in PYTHONPATH, Python imports this module at its start. It hides what is missing there,
and brings nothing that is only there: paths, processes and signals stay those of this system.
"""

import os
import signal
import sys

MODULES = "fcntl grp pwd resource syslog"
OS = """
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK chown chroot fchmod fchown fdatasync fork forkpty getegid
    geteuid getgid getgroups getpgid getuid killpg lchown mkfifo nice pread preadv pwrite pwritev
    register_at_fork sched_getaffinity sched_yield sendfile setegid seteuid setgid setsid setuid statvfs sync
"""
SIGNAL = """
    SIGALRM SIGHUP SIGKILL SIGPIPE SIGQUIT SIGTSTP SIGUSR1 SIGUSR2 alarm pause pthread_kill pthread_sigmask
    setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
"""

for name in MODULES.split():
    sys.modules[name] = None
for module, names in ((os, OS), (signal, SIGNAL)):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
# What Python itself builds on these.
os.supports_dir_fd.clear()
if hasattr(os, "process_cpu_count"):
    os.process_cpu_count = os.cpu_count
