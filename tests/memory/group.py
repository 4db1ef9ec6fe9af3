"""A memory control group for one process: what it may take at most, and what it took by the
kernel's own count. Version 2 and version 1. As root, or where a group has been delegated."""
import os
import signal
import subprocess
import threading
import time

FILES = {  # version: limit, use, most use so far
    2: ("memory.max", "memory.current", "memory.peak"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
}


class Unavailable(Exception):
    """No memory control group can be made; the text says why."""


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read()


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def hierarchies():
    """(version, where it is mounted, this process's group in it), version 2 first."""
    own = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own[2] = path
        elif "memory" in controllers.split(","):
            own[1] = path
    for line in sorted(read("/proc/self/mountinfo").splitlines(), key=lambda s: " - cgroup2 " not in s):
        fields, fs = (part.split() for part in line.split(" - ", 1))
        if fs[0] == "cgroup2" and 2 in own:
            yield 2, fields[4], own[2]
        elif fs[0] == "cgroup" and "memory" in fs[2].split(",") and 1 in own:
            yield 1, fields[4], own[1]


def parents():
    """(version, directory) in which a group might be made: this process's, then those above."""
    for version, mount, path in hierarchies():
        while True:
            yield version, os.path.normpath(mount + path)
            if path in ("", "/"):
                break
            path = os.path.dirname(path)


def make(name):
    """A new group: (version, directory)."""
    why = "there is no memory controller"
    for version, parent in parents():
        path = os.path.join(parent, f"{name}-{os.getpid()}")
        try:
            if version == 2:
                if "memory" not in read(os.path.join(parent, "cgroup.controllers")).split():
                    continue
                write(os.path.join(parent, "cgroup.subtree_control"), "+memory")
            os.mkdir(path)
        except OSError as e:
            why = str(e)
            continue
        if all(os.path.exists(os.path.join(path, f)) for f in FILES[version]):
            return version, path
        os.rmdir(path)
        why = f"{parent}: a group in it does not count memory"
    raise Unavailable(f"no memory control group can be made: {why}")


class Group:
    """A group in which commands are run; use it in a `with`."""

    def __init__(self, limit=None, name="lade-test"):
        self.version, self.path = make(name)
        self.limit_file, self.use_file, self.peak_file = FILES[self.version]
        if limit:
            self.write(self.limit_file, int(limit))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(100):
            for pid in self.read("cgroup.procs").split():
                os.kill(int(pid), signal.SIGKILL)
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.05)

    def read(self, name):
        return read(os.path.join(self.path, name))

    def write(self, name, value):
        write(os.path.join(self.path, name), str(value))

    def use(self):
        return int(self.read(self.use_file))

    def peak(self):
        return int(self.read(self.peak_file))

    def stat(self, *keys):
        """The sum of some lines of memory.stat."""
        lines = dict(line.split() for line in self.read("memory.stat").splitlines())
        return sum(int(lines.get(k, 0)) for k in keys)

    def cache(self):
        """Pages of files, which the kernel takes back when it needs memory."""
        return self.stat("file") if self.version == 2 else self.stat("cache")

    def kills(self):
        """Processes of the group that were killed because it had no memory left."""
        text = self.read("memory.events" if self.version == 2 else "memory.oom_control")
        return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))

    def start(self, command, **more):
        """Starts a command in the group: a shell enters it first and becomes the command."""
        enter = 'echo $$ > "$0" && exec "$@"'
        procs = os.path.join(self.path, "cgroup.procs")
        return subprocess.Popen(["sh", "-c", enter, procs, *command], **more)


class Watch(threading.Thread):
    """What a process has in memory while it runs, by /proc: `hwm` is the kernel's own highest mark,
    `anon` the most of pages that are no file's, seen every 5 ms."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.hwm, self.anon = pid, 0, 0
        self.start()

    def run(self):
        try:
            while True:
                lines = dict(line.split(":", 1) for line in read(f"/proc/{self.pid}/status").splitlines())
                if "VmHWM" not in lines:
                    return  # it has ended
                self.hwm = max(self.hwm, 1024 * int(lines["VmHWM"].split()[0]))
                self.anon = max(self.anon, 1024 * (int(lines["RssAnon"].split()[0]) +
                                                   int(lines["RssShmem"].split()[0])))
                time.sleep(0.005)
        except OSError:
            return
