"""A small reverse proxy, which serves a page of this machine below a path, as nginx with ``proxy_pass`` does."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

OF_ONE_CONNECTION = ("connection", "transfer-encoding", "keep-alive")


@contextmanager
def served_below(path: str, port: int) -> Iterator[str]:
    """The address at which ``http://127.0.0.1:PORT/`` is served; nothing is served elsewhere.

    Args:
        path: begins and ends with a slash.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(path):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = HTTPConnection("127.0.0.1", port)
            upstream.request(self.command, f"/{self.path.removeprefix(path)}", body or None, dict(self.headers))
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in OF_ONE_CONNECTION:
                    self.send_header(name, value)
            self.end_headers()
            while part := answer.read1(1 << 16):  # events are passed on as they come
                self.wfile.write(part)
                self.wfile.flush()

        do_POST = do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{path}"
        server.shutdown()
