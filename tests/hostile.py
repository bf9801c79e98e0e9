"""An HTTP server on this machine that misbehaves as told."""

import http.server
import re
import threading
from contextlib import contextmanager


class Behaviour:
    """What the server does with its files, {path: bytes}; each field is one vice."""

    def __init__(self, files):
        self.files = files
        self.ranges = True  # understands Range
        self.drop_after = None  # bytes of a body after which the connection breaks off
        self.drops = 10**9  # so often, then it behaves
        self.status = None  # answers only this
        self.statuses = []  # answers these first
        self.redirect = None  # path -> where to
        self.length = 0  # is added to Content-Length
        self.pause = 0  # seconds between two bytes of a body
        self.silent = False  # accepts, and never answers
        self.chunked = False  # says no length
        self.requests = []  # (path, Range) as they came


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def end_headers(self):
        self.send_header("Connection", "close")
        super().end_headers()

    def do_GET(self):
        b = self.server.behaviour
        span = self.headers.get("Range")
        b.requests.append((self.path, span))
        if b.silent:
            self.close_connection = True
            self.server.ended.wait(20)
            return
        status = b.status or (b.statuses.pop(0) if b.statuses else None)
        if b.redirect:
            self.send_response(302)
            self.send_header("Location", b.redirect(self.path))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if status or self.path not in b.files:
            return self.send_error(status or 404)
        content, start = b.files[self.path], 0
        if span and b.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", span)[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        if b.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body) + b.length))
        self.end_headers()
        if b.drop_after is not None and b.drops and len(body) > b.drop_after:
            body, b.drops = body[: b.drop_after], b.drops - 1
            whole = False
        else:
            whole = True
        try:
            self._send(body, b, whole)
        except OSError:
            self.close_connection = True  # the client had enough

    def _send(self, body, b, whole):
        if b.pause:
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.ended.wait(b.pause):
                    return
        elif b.chunked:
            for i in range(0, len(body), 4096):
                block = body[i : i + 4096]
                self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            if whole:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body)

    def log_message(self, *args):
        """Says nothing."""


@contextmanager
def serving(files):
    """(address, behaviour) of a server on a port of its own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.behaviour, server.ended, server.daemon_threads = Behaviour(files), threading.Event(), True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.behaviour
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
