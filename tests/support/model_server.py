#!/usr/bin/env python3
"""An OpenAI-compatible server on loopback that says what it was told to: model_server.py LOG

Prints its port, and ends with its standard input. The first part of a path chooses how it behaves, so that
http://127.0.0.1:PORT/plain/v1 is a server that does its work and .../cut/v1 one that hangs up in the
middle. LOG gets a line for each question: its JSON, with the request's Authorization as "key".
"""
import http.server
import json
import sys
import threading

LOG = sys.argv[1]
USAGE = {"prompt_tokens": 20, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
health = {}  # how often each behaviour was asked for its health
lock = threading.Lock()


def delta(finish=None, reason=None, **fields):
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    if reason:
        choice["stop_reason"] = reason
    return {"object": "chat.completion.chunk", "choices": [choice]}


def event(value):
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def texts(*parts):
    return b"".join(event(delta(content=part)) for part in parts)


END = event(delta("stop")) + event({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"
FLOAT = texts("Ships", " float", " because", " of Archimedes.")
# What is sent to a question, by behaviour; None hangs up, a number waits for so many seconds.
STREAMS = {
    "plain": [event(delta(role="assistant", content="")), FLOAT, END],
    "reasoning": [
        event(delta(reasoning_content="They dis")),
        event(delta(reasoning_content="place water.\n\n")),
        texts("\n\nThey float."),
        END,
    ],
    "other-reasoning": [event(delta(reasoning="Water.")), texts("They float."), END],
    "tags": [texts("\n<th", "ink>\nWat", "er <", "b>\n</thi", "nk>\n\nThey <think> float."), END],
    "no-usage": [FLOAT, event(delta("stop")), b"data: [DONE]\n\n"],
    "no-done": [FLOAT, event(delta("stop"))],
    "length": [FLOAT, event(delta("length")), event({"choices": [], "usage": USAGE})],
    "stop-text": [FLOAT, event(delta("stop", "\n\n")), event({"choices": [], "usage": USAGE})],
    "error": [texts("Ships"), event({"error": {"message": "CUDA \x1b[31mout of memory", "code": 500}})],
    "error-field": [texts("Ships"), b'error: {"code": 500, "message": "no slot"}\n\n'],
    "cut": [texts("Ships", " float"), None],
    "early": [texts("Ships", " float")],
    "slow": [texts("Ships", " float"), 600],
    "silent": [600],
    "garbage": [texts("Ships"), b"data: {nonsense\n\n"],
    "huge": [texts("Ships"), b"data: " + b"x" * (3 << 20) + b"\n\n"],
    "odd": [
        b"\xef\xbb\xbf: a comment\r\nevent: x\r\ndata: " + json.dumps(delta(content="Sh\0ip")).encode(),
        b"\r\n\r\n",
        b'data: {"choices":\rdata: [{"delta": {"content": "s \xff\xe2\x82 \xf0\x9f\x9a\xa2"}}]}\r\r',
        END,
    ],
}
PROGRESS = b"".join(event({"choices": [], "prompt_progress": {"total": 20, "cache": 8, "processed": n}})
                    for n in (8, 14, 20))
STREAMS["llamacpp"] = [PROGRESS, FLOAT, END]
ABOUT = {"llamacpp": {"owned_by": "llamacpp", "meta": {"n_ctx": 512, "n_ctx_train": 4096}}}
MODELS = {"several": ["one", "two/three"], "none": []}
# Other answers than these, by behaviour: status, type, body.
FAILS = {
    "too-long": (400, "application/json", {"error": {"message": "This model's maximum context length is 8."}}),
    "refuses": (400, "application/json", {"detail": "top_k is not\nsupported"}),
    "no-stream": (200, "application/json", {"choices": [{"message": {"content": "Ships float."}}]}),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, kind, body, headers=()):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self, how):
        if how == "key" and self.headers.get("Authorization") != "Bearer secret-key":
            self.answer(401, "application/json", {"error": {"message": "Unauthorized"}})
            return True
        return False

    def do_GET(self):
        how, _, what = self.path.strip("/").partition("/")
        if what == "health":
            with lock:
                health[how] = health.get(how, 0) + 1
                n = health[how]
            if how == "loading" and n <= 2 or how == "always-loading":
                say = {"status": "loading", "loaded_bytes": 100 + 300 * min(n, 2), "bytes": 1000}
                return self.answer(503, "application/json", say)
            return self.answer(200, "application/json", {})
        if self.refused(how):
            return None
        if how == "redirect":
            where = "http://localhost:9/v1/models"
            return self.answer(307, "text/plain", "", [("Location", where)])
        if how == "page":
            return self.answer(200, "text/html", "<html>hello</html>")
        if what != "v1/models" or how == "nothing":
            return self.answer(404, "text/plain", "no")
        about = ABOUT.get(how, {"owned_by": "vllm", "max_model_len": 4096})
        names = MODELS.get(how, ["org/served-8b"])
        data = [{"id": name, "object": "model", **about} for name in names]
        return self.answer(200, "application/json", {"object": "list", "data": data})

    def do_POST(self):
        how, _, what = self.path.strip("/").partition("/")
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused(how):
            return None
        with lock, open(LOG, "a") as log:
            log.write(json.dumps({**asked, "key": self.headers.get("Authorization")}) + "\n")
        if how in FAILS:
            return self.answer(*FAILS[how])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            self.stream(STREAMS.get(how, STREAMS["plain"]))
        except OSError:
            pass  # the client went away
        return None

    def stream(self, parts):
        for part in parts:
            if part is None:
                return
            if isinstance(part, int):
                self.connection.settimeout(part)
                self.connection.recv(1)  # until the client goes away
                return
            for piece in part.split(b"\n\n"):
                piece += b"\n\n" if part.endswith(b"\n\n") and piece else b""
                if piece:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


def main():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


main()
