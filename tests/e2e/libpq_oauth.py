"""A client of libpq 18 that logs in by OAUTHBEARER, as a program of its own: libpq's hook for tokens is one for the whole process.

    python libpq_oauth.py CONNINFO      the token stands in TOKEN; prints JSON: what was asked of the hook, what SELECT said

psycopg's binary wheel holds libpq 18 and shows no way to its hook: it is set here by ctypes (libpq's documentation, "OAuth Support",
`PQAUTHDATA_OAUTH_BEARER_TOKEN`).
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import sys

import psycopg
import psycopg_binary

BEARER_TOKEN = 1


class Request(ctypes.Structure):
    """PGoauthBearerRequest."""

    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("asynchronous", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


def library():
    """The libpq that psycopg itself has loaded."""
    beside = pathlib.Path(psycopg_binary.__file__).parent.parent / "psycopg_binary.libs"
    return ctypes.CDLL(str(next(beside.glob("libpq-*"))))


def main(conninfo):
    asked = []
    token = os.environ.get("TOKEN", "").encode()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    def hook(kind, _connection, data):
        if kind != BEARER_TOKEN or not token:
            return 0
        request = ctypes.cast(data, ctypes.POINTER(Request)).contents
        asked.append([(request.openid_configuration or b"").decode(), (request.scope or b"").decode()])
        request.token = token
        return 1

    library().PQsetAuthDataHook(hook)
    try:
        with psycopg.connect(conninfo) as db:
            said = [db.execute("SELECT 40 + 2").fetchone()[0], db.pgconn.used_password]
        error = None
    except psycopg.OperationalError as refused:
        said, error = None, str(refused)
    print(json.dumps({"asked": asked, "said": said, "error": error}))


if __name__ == "__main__":
    main(sys.argv[1])
