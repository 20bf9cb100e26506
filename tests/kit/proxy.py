#!/usr/bin/env python3
"""Records and disturbs AWS calls on their way to a server on this machine. Standard library only.

    proxy.py --listen PORT --upstream PORT

Each call is forwarded to 127.0.0.1:UPSTREAM and appended to an ordered log. Calls are told apart by operation and
Auto Scaling group, so that tests which run side by side do not see or disturb one another.

    GET  /__log[?group=G]      [{"sequence", "operation", "group", "parameters", "status", "fault"}, ...] in arrival order
    POST /__rules              one rule or a list, added behind those there:
                               {"operation": O, "group": G, "mode": M, "count": N, "seconds": S}
                               modes: throttle, error (AWS's 500), html (a 500 that is no AWS error), denied,
                               hang (silence for S seconds, then the connection closes), drop (closes at once),
                               delay (S seconds, then forwarded)
    POST /__forget?group=G     drops the rules of one group
"""

import argparse
import http.client
import http.server
import json
import threading
import time
import urllib.parse

XML_ERROR = (
    '<ErrorResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><Error><Type>{kind}</Type>'
    "<Code>{code}</Code><Message>{message}</Message></Error><RequestId>00000000</RequestId></ErrorResponse>"
)
ANSWERS = {
    "throttle": (400, "text/xml", XML_ERROR.format(kind="Sender", code="Throttling", message="Rate exceeded")),
    "error": (500, "text/xml", XML_ERROR.format(kind="Receiver", code="InternalFailure", message="scripted fault")),
    "denied": (403, "text/xml", XML_ERROR.format(kind="Sender", code="AccessDenied", message="scripted refusal")),
    "html": (500, "text/html", "<!doctype html><title>500 Internal Server Error</title>"),
}
NOT_FORWARDED = {"connection", "content-length", "transfer-encoding", "keep-alive", "host"}

lock = threading.Lock()
log = []
rules = []


def decode(body, target_header):
    """Operation, group and parameters of a call in AWS's query protocol; other protocols give the operation only."""
    pairs = urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    parameters = dict(pairs)
    operation = parameters.pop("Action", None) or (target_header or "").rpartition(".")[2] or None
    parameters.pop("Version", None)
    group = parameters.get("AutoScalingGroupName") or parameters.get("AutoScalingGroupNames.member.1")
    return operation, group, parameters


def matching_rule(operation, group):
    """The first rule left for this call, counted down. Call it with the lock held."""
    for rule in rules:
        if rule["left"] > 0 and rule["operation"] == operation and rule["group"] in (None, group):
            rule["left"] -= 1
            return rule
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, kind, body, headers=()):
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def control(self, url, body):
        group = urllib.parse.parse_qs(url.query).get("group", [None])[0]
        with lock:
            if url.path == "/__log":
                shown = [entry for entry in log if group in (None, entry["group"])]
                return self.answer(200, "application/json", json.dumps(shown))
            if url.path == "/__rules" and self.command == "POST":
                given = json.loads(body)
                for rule in given if isinstance(given, list) else [given]:
                    mode = rule["mode"]
                    if mode not in ANSWERS and mode not in ("hang", "drop", "delay"):
                        return self.answer(400, "text/plain", f"no mode `{mode}`")
                    rules.append(
                        {
                            "operation": rule["operation"],
                            "group": rule.get("group"),
                            "mode": mode,
                            "left": int(rule.get("count", 1)),
                            "seconds": float(rule.get("seconds", 0)),
                        }
                    )
                return self.answer(200, "text/plain", "ok")
            if url.path == "/__forget" and self.command == "POST":
                rules[:] = [rule for rule in rules if rule["group"] != group]
                return self.answer(200, "text/plain", "ok")
        return self.answer(404, "text/plain", "no such control path")

    def handle_call(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/__"):
            return self.control(url, body)
        operation, group, parameters = decode(body, self.headers.get("X-Amz-Target"))
        with lock:
            rule = matching_rule(operation, group)
            entry = {
                "sequence": len(log),
                "operation": operation or f"{self.command} {url.path}",
                "group": group,
                "parameters": parameters,
                "status": None,
                "fault": rule and rule["mode"],
            }
            log.append(entry)
        if rule:
            mode = rule["mode"]
            if mode in ANSWERS:
                entry["status"] = ANSWERS[mode][0]
                return self.answer(*ANSWERS[mode])
            time.sleep(rule["seconds"])
            if mode in ("hang", "drop"):
                self.close_connection = True
                return None
        return self.forward(entry, body)

    def forward(self, entry, body):
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_FORWARDED}
            # The signature covers the name that the client called, so moto must see that one.
            headers["Host"] = self.headers.get("Host", "")
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            data = response.read()
        except OSError as error:
            entry["status"] = 502
            return self.answer(502, "text/plain", f"upstream: {error}")
        finally:
            upstream.close()
        entry["status"] = response.status
        kept = [(n, v) for n, v in response.getheaders() if n.lower() not in NOT_FORWARDED | {"content-type", "date", "server"}]
        return self.answer(response.status, response.getheader("Content-Type", "text/xml"), data, kept)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_call


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--listen", type=int, required=True)
    arguments.add_argument("--upstream", type=int, required=True)
    given = arguments.parse_args()
    server = Server(("127.0.0.1", given.listen), Handler)
    server.upstream = given.upstream
    server.serve_forever()


if __name__ == "__main__":
    main()
