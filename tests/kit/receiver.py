#!/usr/bin/env python3
"""A receiver of Prescale's webhook, as somebody else would write it: checks signatures by the standard library, keeps the
last desired capacity, and fails as it is told.

    receiver.py SECRET [STATUS...]    each STATUS answers one POST before it works; prints its port, then a line for each call
"""
import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

secret, script = sys.argv[1].encode(), sys.argv[2:]
units, keys = 3, []


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=None, headers=()):
        # Before the answer: whoever has it may end us.
        print(json.dumps({"method": self.command, "status": status, "key": self.headers.get("idempotency-key")}), flush=True)
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def signed(self, body):
        stamp = self.headers.get("prescale-timestamp", "")
        expected = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest("v1=" + expected, self.headers.get("prescale-signature", ""))

    def do_GET(self):
        if not self.signed(b""):
            return self.answer(401)
        self.answer(200, {"desired": units, "ready": units, "min": 1, "max": 12})

    def do_POST(self):
        global units
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self.signed(body):
            return self.answer(401)
        if script:
            return self.answer(int(script.pop(0)), None, [("retry-after", "1")])
        key = self.headers["idempotency-key"]
        if key not in keys:
            keys.append(key)
            units = json.loads(body)["desired"]
        self.answer(200, {"desired": units})

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
