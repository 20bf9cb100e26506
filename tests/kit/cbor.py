#!/usr/bin/env python3
"""CloudWatch in the words of today's SDKs (Smithy RPC v2, CBOR) in front of a moto server, which knows the older ones only.
boto3 passes each call on; what it returns is what is answered.

    cbor.py --listen PORT --upstream PORT
"""
import argparse
import gzip
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import cbor2
from botocore.exceptions import ClientError
from botocore import xform_name

arguments = argparse.ArgumentParser()
arguments.add_argument("--listen", type=int, required=True)
arguments.add_argument("--upstream", type=int, required=True)
arguments = arguments.parse_args()
client = boto3.client("cloudwatch", endpoint_url=f"http://127.0.0.1:{arguments.upstream}")


def with_zones(value):
    """Times are epochs in CBOR and dates in Python."""
    if isinstance(value, dict):
        return {key: with_zones(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_zones(inner) for inner in value]
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return value


class Translator(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":  # as SDKs send whatever is large
            body = gzip.decompress(body)
        operation = self.path.rsplit("/", 1)[-1]
        try:
            call = getattr(client, xform_name(operation))
            answer, status = call(**with_zones(cbor2.loads(body))), 200
            answer.pop("ResponseMetadata", None)
        except ClientError as error:
            answer, status = {"__type": error.response["Error"]["Code"], "message": str(error)}, 400
        data = cbor2.dumps(with_zones(answer), datetime_as_timestamp=True)
        self.send_response(status)
        self.send_header("smithy-protocol", "rpc-v2-cbor")
        self.send_header("content-type", "application/cbor")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", arguments.listen), Translator).serve_forever()
