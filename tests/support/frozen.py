"""A process that runs during an invocation only, as AWS Lambda keeps one; see `lambda_runtime`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .mutants import python_path
from .trackers import SECRET_KEY
from .waiting import PATIENCE_S, wait_until

TESTS = Path(__file__).parent.parent
TOKEN = "serverless"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class FrozenProcess:
    """A process of `support.lambda_runtime`, which runs during an invocation only."""

    def __init__(self, directory, mixpanel_url, **settings):
        self.spool = directory / "spool"
        self._log = (directory / "lambda.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.lambda_runtime", json.dumps(settings)],
            env={
                **os.environ,
                "HOME": str(directory),
                "PYTHONPATH": python_path(TESTS),
                "MIXPANEL_TOKEN": TOKEN,
                "MIXPANEL_API_HOST": mixpanel_url,
                "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY,
                "MIXPANEL_VISITOR_SPOOL": str(self.spool),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._invoked = False

    def order(self, number):
        """Invoke it; give the response once the process is stopped."""
        if self._invoked:
            self._process.send_signal(signal.SIGCONT)
        self._invoked = True
        self._process.stdin.write(json.dumps(invocation(f"n={number}")).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert wait_until(self._is_stopped, PATIENCE_S)
        return answer

    def _is_stopped(self):
        return os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG) is not None

    def kill(self):
        """End it as it is, which the platform may do at any time."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()


def invocation(query):
    """What an HTTP API gives to a Lambda function, as far as Mangum looks at it."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/order",
        "rawQueryString": query,
        "headers": {"host": "shop.example", "user-agent": BROWSER},
        "requestContext": {
            "http": {"method": "POST", "path": "/order", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7"}
        },
        "isBase64Encoded": False,
    }
