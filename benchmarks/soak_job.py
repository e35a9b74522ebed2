"""One start of the training command under mpirun, for benchmarks/soak.py: its processes and its log."""
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

# The exit code of a run that has saved and wants to be started again.
START_AGAIN = 75
# Steps of a run that is ended from outside; with a constant learning rate they decide nothing else.
MANY_STEPS = 100_000_000


class Clock:
    """Seconds that go by while this process runs: a soak that is suspended with its jobs has missed nothing."""

    def __init__(self):
        self.seconds = 0.0
        threading.Thread(target=self.tick, daemon=True).start()

    def tick(self):
        last = time.monotonic()
        while True:
            time.sleep(0.02)
            now = time.monotonic()
            self.seconds += min(now - last, 1.0)
            last = now


CLOCK = Clock()


def now():
    return CLOCK.seconds


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


# Tells the processes of a start from all others, on whatever emulated host.
MARKER = "ORPO_DIST_SOAK_START"


def launcher(settings, ranks, one_host):
    """The words before `-n`: mpirun here, or on the first emulated host with ranks on all of them in turn."""
    hosts = min(settings["hosts"], ranks)
    if one_host or settings["hosts"] == 1:
        return settings["mpirun"]
    slots = [(ranks + hosts - 1 - number) // hosts for number in range(hosts)]
    names = ",".join(f"host{number + 1}:{count}" for number, count in enumerate(slots))
    return [settings["emulated"], "exec", "host1", *settings["mpirun_hosts"], "-x", MARKER, "-x", "ORPO_DIST_DRILL", "-H", names]


class Leg:
    """One start of the training command, until the job is gone."""

    def __init__(self, settings, folder, number, ranks, arguments, environment=None, one_host=False):
        self.ranks = ranks
        self.marker = f"{settings['out']}/{number}"
        self.log = pathlib.Path(settings["out"]) / "logs" / f"{number}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            "bash", "-c", 'source "$0"; run_mpirun "$@"', settings["launching"], *launcher(settings, ranks, one_host), "-n", str(ranks), settings["program"], "train",
            "--config", settings["config"], f"output_dir={folder}",
            f"gradient_accumulation_steps={settings['pairs'] // ranks}",
            f"threads_per_rank={max(1, settings['cores'] // ranks)}", *arguments]
        self.began = now()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "ORPO_DIST_DRILL": "", MARKER: self.marker, **(environment or {})})
        self.members = {}
        self.mpirun = None
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
            # The first line of a start may be an evaluation that was due when the one before ended.
            if (found := re.match(r"step (\d+)/\d+  ", line)) and "  eval_loss " not in line:
                self.last = int(found[1])
                if self.first is None:
                    self.first = self.last
            elif found := re.match(r"continuing from \S*checkpoint-(\d+)$", line):
                self.resumed = int(found[1])
        return self.process.poll() is None or bool(self.alive())

    def find_ranks(self):
        """Remembers the processes of this job with their start times: a number alone may be given to another process."""
        if len(self.members) == self.ranks:
            return
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            if pid in self.members or not (fields := process_fields(pid)):
                continue
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                name, parent = (pathlib.Path(f"/proc/{number}/comm").read_text(encoding="ascii", errors="replace").strip()
                                for number in (pid, fields[1]))
            except OSError:
                continue
            # Daemons have the marker as well, and what a rank starts has all that a rank has but its parent.
            if f"{MARKER}={self.marker}".encode() not in variables:
                continue
            if name in ("mpirun", "orterun"):
                self.mpirun = pid
            ranks = [int(text[21:]) for text in variables if text.startswith(b"OMPI_COMM_WORLD_RANK=")]
            if ranks and parent in ("mpirun", "orterun", "orted"):
                self.members[pid] = (ranks[0], fields[2])

    def alive(self):
        """Process id and rank of those ranks that are still there."""
        return {pid: rank for pid, (rank, began) in self.members.items()
                if (fields := process_fields(pid)) and fields[2] == began}

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, condition, seconds):
        """Polls until the condition holds (True), the job is gone or time is up (False)."""
        limit = now() + seconds
        while True:
            is_there = self.poll()
            if condition():
                return True
            if not is_there or now() > limit:
                return False
            time.sleep(0.05)

    def wait_for_end(self, seconds):
        self.wait_until(lambda: False, seconds)
        return not self.poll()

    def end_at_once(self):
        self.find_ranks()
        for pid in filter(None, [self.process.pid if self.process.poll() is None else None, self.mpirun, *self.alive()]):
            send(pid, signal.SIGKILL)
        self.process.wait()
        self.wait_for_end(10)
