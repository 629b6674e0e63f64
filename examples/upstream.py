#!/usr/bin/env python3
"""A service to put behind a proxy: answers every request with its method, its path and the identity that came with it.

    python3 examples/upstream.py

It reads header names as many frameworks do, with everything that is no letter or digit as one and the same, so it shows what
spoofed spellings would do.
"""

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9000


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lines = [f"{self.command} {self.path}"]
        for name, value in sorted(self.headers.items(), key=lambda header: header[0].lower()):
            name = re.sub(r"[^a-z0-9]", "-", name.lower())
            if re.match(r"x-(tokenward|user)-", name):
                lines.append(f"{name}: {value}")
        body = "".join(line + "\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Service)
print(f"listening on 127.0.0.1:{PORT}", file=sys.stderr)
server.serve_forever()
