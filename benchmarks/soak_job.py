"""One start of the training command under mpirun, for benchmarks/soak.py: its processes and its log."""
import os
import pathlib
import re
import signal
import subprocess
import time


def process_fields(pid):
    """State, parent and start time of a process; None when it is gone. A zombie is gone."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2:].split()
    return None if fields[0] in "ZX" else (fields[0], int(fields[1]), fields[19])


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Leg:
    """One start of the training command, until the job is gone."""

    def __init__(self, settings, folder, number, ranks, arguments, environment=None):
        self.ranks = ranks
        self.log = pathlib.Path(settings["out"]) / "logs" / f"{number}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *settings["mpirun"], "-n", str(ranks), settings["program"], "train",
            "--config", settings["config"], f"output_dir={folder}",
            f"gradient_accumulation_steps={settings['pairs'] // ranks}",
            f"threads_per_rank={max(1, settings['cores'] // ranks)}", *arguments]
        self.began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **(environment or {})})
        self.members = {}
        self.offset = 0
        self.tail = ""
        self.first = None
        self.last = None
        self.resumed = None

    def poll(self):
        """Reads what the log has new; whether the job is still there."""
        self.find_ranks()
        with open(self.log, "rb") as log:
            log.seek(self.offset)
            new = log.read()
        self.offset += len(new)
        *lines, self.tail = (self.tail + new.decode("utf-8", errors="replace")).split("\n")
        for line in lines:
            if found := re.match(r"step (\d+)/\d+  ", line):
                self.last = int(found[1])
                if self.first is None:
                    self.first = self.last
            elif found := re.match(r"continuing from \S*checkpoint-(\d+)$", line):
                self.resumed = int(found[1])
        return self.process.poll() is None or bool(self.alive())

    def find_ranks(self):
        """Remembers the processes of this job with their start times: a number alone may be given to another process."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            pids = [int(pid) for pid in children.read_text(encoding="ascii").split()]
        except OSError:
            return
        for pid in pids:
            if pid in self.members:
                continue
            try:
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            found = re.search(rb"(?:^|\0)OMPI_COMM_WORLD_RANK=(\d+)", environment)
            if found and (fields := process_fields(pid)):
                self.members[pid] = (int(found[1]), fields[2])

    def alive(self):
        """Process id and rank of those ranks that are still there."""
        return {pid: rank for pid, (rank, began) in self.members.items()
                if (fields := process_fields(pid)) and fields[2] == began}

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, condition, seconds):
        """Polls until the condition holds (True), the job is gone or time is up (False)."""
        limit = time.monotonic() + seconds
        while True:
            is_there = self.poll()
            if condition():
                return True
            if not is_there or time.monotonic() > limit:
                return False
            time.sleep(0.05)

    def wait_for_end(self, seconds):
        self.wait_until(lambda: False, seconds)
        return not self.poll()

    def end_at_once(self):
        if self.process.poll() is None:
            send(self.process.pid, signal.SIGKILL)
        for pid in self.alive():
            send(pid, signal.SIGKILL)
        self.process.wait()
        self.wait_for_end(10)
