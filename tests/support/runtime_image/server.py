"""A runtime of another make than ours: OpenWhisk's action protocol by the standard library's HTTP server.

Environment: SENTINELS=0 leaves the sentinel lines out, as images of anyone's may; HTTP=1.0 closes after each answer.
An init without code leaves the action that is in the image already, which echoes its arguments.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"


def echo(args):
    print("echo", json.dumps(args), flush=True)
    return args


class Handler(BaseHTTPRequestHandler):
    protocol_version = f"HTTP/{os.environ.get('HTTP', '1.1')}"
    action = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.init(body["value"]) if self.path == "/init" else self.run(body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def init(self, value):
        if Handler.action is not None:
            return 403, {"error": "Cannot initialize the action more than once."}
        os.environ.update(value.get("env") or {})
        names = {}
        if value.get("code"):
            try:
                exec(value["code"], names)
            except Exception as e:  # noqa: BLE001 - whatever an action does
                return 502, {"error": f"no action: {e!r}"}
        Handler.action = names.get(value.get("main") or "main", echo)
        return 200, {"ok": True}

    def run(self, body):
        for name, text in body.items():
            if name != "value":
                os.environ[f"__OW_{name.upper()}"] = text  # a number dies here, as in the official launcher
        try:
            return 200, Handler.action(body.get("value"))
        except Exception as e:  # noqa: BLE001 - whatever an action does
            return 502, {"error": f"An error has occurred: {e!r}"}
        finally:
            if os.environ.get("SENTINELS", "1") == "1":
                for stream in (sys.stdout, sys.stderr):
                    print(SENTINEL, file=stream, flush=True)

    def log_message(self, *args):
        pass


HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
