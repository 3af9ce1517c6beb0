"""`GET /blackbox.tar.gz`, which `wsk sdk install docker` unpacks: what an image for blackbox actions is made of."""

from __future__ import annotations

import functools
import io
import tarfile

CONTENT_TYPE = "application/gzip"
_FOLDER = "dockerSkeleton"  # where the client looks for it once unpacked

_DOCKERFILE = """\
FROM python:3.11-alpine
RUN mkdir /action
COPY server.py exec /action/
RUN chmod +x /action/exec
WORKDIR /action
EXPOSE 8080
CMD ["python3", "-u", "server.py"]
"""

_EXEC = """\
#!/bin/sh
# The action: its arguments are one JSON object, $1. What it prints is its log; the last line is its result.
echo "called with $1" >&2
echo "{\\"msg\\": \\"Hello from a blackbox\\", \\"args\\": $1}"
"""

_SERVER = '''\
"""Answers POST /init and POST /run as an OpenWhisk action does, by running the program ./exec for each call."""

import base64
import io
import json
import os
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
FOLDER = os.path.dirname(os.path.abspath(__file__))


def init(value):
    """Takes the code that `--docker IMAGE FILE` gives, if any, in place of the program in the image."""
    code = value.get("code") or ""
    if not code:
        return
    program = os.path.join(FOLDER, "exec")
    if value.get("binary"):
        data = base64.b64decode(code)
        if zipfile.is_zipfile(io.BytesIO(data)):
            zipfile.ZipFile(io.BytesIO(data)).extractall(FOLDER)
        else:
            with open(program, "wb") as f:
                f.write(data)
    else:
        with open(program, "w") as f:
            f.write(code)
    os.chmod(program, 0o755)


def run(message):
    """Status and result of one call."""
    env = dict(os.environ)
    for key, value in message.items():
        if key != "value":
            env["__OW_" + key.upper()] = value if isinstance(value, str) else json.dumps(value)
    args = json.dumps(message.get("value", {}))
    ended = subprocess.run([os.path.join(FOLDER, "exec"), args], env=env, cwd=FOLDER, capture_output=True, text=True)
    sys.stderr.write(ended.stderr)
    *logs, last = ended.stdout.rstrip("\\n").split("\\n")
    for line in logs:
        print(line)
    try:
        result = json.loads(last)
    except ValueError:
        result = None
    if isinstance(result, (dict, list)):
        return 200, result
    return 502, {"error": "The action did not return a dictionary."}


class Action(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.path == "/init":
            try:
                init(body.get("value", {}))
                status, answer = 200, {"ok": True}
            except Exception as e:
                status, answer = 502, {"error": "The action could not be initialized: %s" % e}
        else:
            try:
                status, answer = run(body)
            except Exception as e:
                status, answer = 502, {"error": "An error has occurred: %s" % e}
            for stream in (sys.stdout, sys.stderr):
                stream.write(SENTINEL + "\\n")
                stream.flush()
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    HTTPServer(("0.0.0.0", port), Action).serve_forever()
'''

_README = """\
# A blackbox action

`exec` is the action: any program that takes one JSON object as its argument and prints one as its last line.
`server.py` answers the platform and runs it. Put your program in place of `exec`, then:

    docker build -t NAME/IMAGE . && docker push NAME/IMAGE
    wsk action create ACTION --docker NAME/IMAGE
    wsk action invoke ACTION -r -p key value
"""


@functools.cache
def blackbox() -> bytes:
    """The archive, the same at every call."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text, mode in (
            ("Dockerfile", _DOCKERFILE, 0o644),
            ("README.md", _README, 0o644),
            ("exec", _EXEC, 0o755),
            ("server.py", _SERVER, 0o644),
        ):
            member = tarfile.TarInfo(f"{_FOLDER}/{name}")
            member.size, member.mode = len(text.encode()), mode
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()
