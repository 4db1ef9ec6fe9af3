#!/usr/bin/env python3
"""A model hub on loopback that misbehaves on request: hub_server.py ROOT

Serves the files of ROOT/ORG/NAME/ with the hub's three addresses (revision, tree, resolve) on two
ports, and prints both, one line. A line of standard input is a list of rules, which replaces the
one before and empties ROOT/log; "ok" is printed when that is done. At the end of the input it ends.

    {"match": TEXT, "times": N, "port": 0 or 1, ACTION: VALUE ...}

The first rule with uses left whose text is part of the request's path applies (times 0: always).
Actions: status, headers, body; delay (seconds before the answer); redirect ("port", "host", "loop",
"file"); for files also drop (cut the connection after so many bytes), truncate (the same without a
Content-Length), flip (change the byte at that place), ignore_range, shift (answer a range that far
off), extra (so many bytes too many), pace (seconds between pieces of 64 KiB).
Every request adds a line to ROOT/log: port, path, Range, and whether there is a bearer's token. A request
whose client has gone already counts for nothing: it belongs to a download that ended, and must not
use up the rules or fill the log of the next one.
"""
import hashlib
import http.server
import json
import os
import socket
import sys
import threading
import time
import urllib.parse

ROOT = os.path.abspath(sys.argv[1])
PAGE = 3  # entries of a page of the tree
lock = threading.Lock()
rules = []
ports = []


def set_rules(line):
    with lock:
        rules[:] = json.loads(line)
        open(os.path.join(ROOT, "log"), "w").close()
    print("ok", flush=True)


def rule_for(path, port):
    for rule in rules:
        if rule["match"] not in path or rule.get("port", port) != port:
            continue
        if rule.get("times", 0) < 0:
            continue
        if rule.get("times", 0) > 0:
            rule["times"] -= 1 if rule["times"] > 1 else 2
        return rule
    return {}


def entry(repo, path):
    full = os.path.join(ROOT, repo, path)
    if os.path.isdir(full):
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
    data = open(full, "rb").read()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    e = {"type": "file", "oid": blob, "size": len(data), "path": path}
    if path.endswith((".safetensors", ".gguf")):
        e["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        e["oid"] = "1" * 40
    return e


def tree(repo):
    found = []
    for directory, dirs, files in os.walk(os.path.join(ROOT, repo)):
        dirs.sort()
        for name in sorted(dirs + files):
            found.append(os.path.relpath(os.path.join(directory, name), os.path.join(ROOT, repo)))
    return [entry(repo, path) for path in sorted(found)]


def commit(repo):
    return hashlib.sha1(json.dumps(tree(repo)).encode()).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def json(self, value, headers=None):
        self.answer(200, json.dumps(value).encode(), headers)

    def redirect(self, where):
        port = self.server.server_address[1]
        other = ports[1] if port == ports[0] else ports[0]
        target = {
            "port": f"http://127.0.0.1:{other}{self.path}",
            "host": f"http://localhost:{other}{self.path}",
            "loop": f"http://127.0.0.1:{port}{self.path}",
            "file": "file:///etc/passwd",
        }[where]
        self.answer(302, b"moved", {"Location": target})

    def client_is_gone(self):
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def do_GET(self):
        path = urllib.parse.unquote(self.path)
        port = ports.index(self.server.server_address[1])
        with lock:
            if self.client_is_gone():
                self.close_connection = True
                return
            with open(os.path.join(ROOT, "log"), "a") as log:
                token = "token" if "Bearer" in self.headers.get("Authorization", "") else "-"
                log.write(f"{port} {path} {self.headers.get('Range', '-')} {token}\n")
            rule = rule_for(path, port)
        time.sleep(rule.get("delay", 0))
        if "redirect" in rule:
            return self.redirect(rule["redirect"])
        if "status" in rule or "body" in rule:
            body = rule.get("body", "no")
            body = body if isinstance(body, str) else json.dumps(body)
            return self.answer(rule.get("status", 200), body.encode(), rule.get("headers"))
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.api("/".join(parts[2:4]), parts[4])
        repo, what, rest = "/".join(parts[:2]), parts[2], "/".join(parts[4:])
        full = os.path.join(ROOT, repo, rest)
        if what != "resolve" or not os.path.isfile(full):
            return self.answer(404, b"Entry not found")
        return self.file(full, rule)

    def api(self, repo, what):
        if not os.path.isdir(os.path.join(ROOT, repo)):
            return self.answer(404, b"Repository not found")
        if what == "revision":
            about = os.path.join(ROOT, repo, ".about.json")
            about = json.load(open(about)) if os.path.exists(about) else {}
            return self.json({"sha": commit(repo), **about})
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        start = int(query.get("cursor", ["0"])[0])
        entries = tree(repo)
        headers = {}
        if start + PAGE < len(entries):
            host = f"http://127.0.0.1:{self.server.server_address[1]}"
            url = f"{host}{self.path.partition('?')[0]}?recursive=true&cursor={start + PAGE}"
            headers["Link"] = f'<{url}>; rel="next"'
        return self.json(entries[start : start + PAGE], headers)

    def file(self, full, rule):
        data = bytearray(open(full, "rb").read())
        if "flip" in rule:
            data[rule["flip"]] ^= 1
        start, status = 0, 200
        asked = self.headers.get("Range")
        if asked and not rule.get("ignore_range"):
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
            if start >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        start -= rule.get("shift", 0) if status == 206 else 0
        body = bytes(data[start:]) + b"x" * rule.get("extra", 0)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if "truncate" in rule:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = rule.get("drop", rule.get("truncate", len(body)))
        step = 65536 if "pace" in rule else max(cut, 1)
        try:
            for at in range(0, min(cut, len(body)), step):
                self.wfile.write(body[at : min(at + step, cut)])
                time.sleep(rule.get("pace", 0))
            if "drop" in rule or "truncate" in rule:
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True  # the client went away


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


def main():
    servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
    ports.extend(s.server_address[1] for s in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(*ports, flush=True)
    for line in sys.stdin:  # until whoever started it goes away
        set_rules(line)


main()
