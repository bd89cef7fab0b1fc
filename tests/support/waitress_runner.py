"""`python -m support.waitress_runner FD`: waitress on a socket that is listening already."""

import socket
import sys

import waitress

from support.apps import wsgi_app

waitress.serve(wsgi_app, sockets=[socket.socket(fileno=int(sys.argv[1]))])
