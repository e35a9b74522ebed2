"""The driver of benchmarks/soak.sh: trains, injects faults, restarts, and checks what is left.

    soak.py SETTINGS.json       prints the table, writes results.json; exit code 1 when a criterion is missed
"""
import json
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from soak_checkpoints import checkpoints, damaged_checkpoints
from soak_faults import INJECT, kill_at_start, signal_rank
from soak_job import MANY_STEPS, Leg, now
from soak_results import results, table
from soak_undisturbed import Undisturbed


class Hopeless(Exception):
    """Why the soak cannot go on; its results so far are shown."""


class Soak:
    def __init__(self, settings):
        self.settings = settings
        self.out = pathlib.Path(settings["out"])
        self.folder = pathlib.Path(settings["disk"]) / "run"
        self.random = random.Random(settings["seed"])
        self.faults = []
        self.problems = []
        self.hangs = 0
        self.corrupted = []
        self.verified = 0
        self.legs = 0
        self.rank_changes = 0
        self.leg = None
        # Faults whose job has ended and that no new step has followed yet.
        self.open_faults = []
        self.bag = []
        # Steps in all, known when the last fault is over.
        self.steps = None
        self.compared = None

    # Starting, and going on.

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    def problem(self, text):
        self.problems.append(text)
        self.say(f"PROBLEM: {text}")

    def start(self, arguments=(), environment=None, ranks=None):
        before = self.leg.ranks if self.leg else None
        ranks = ranks or self.random.choice(self.settings["ranks"])
        if before not in (None, ranks):
            self.rank_changes += 1
        self.legs += 1
        arguments = arguments or [f"max_steps={MANY_STEPS}"]
        self.leg = Leg(self.settings, self.folder, f"leg-{self.legs:03}", ranks, arguments, environment)

    def restart(self, arguments=(), ranks=None):
        """Starts the same command until it trains; closes the faults that are open."""
        for attempt in range(3):
            if attempt == 0 and self.open_faults and not arguments and self.random.random() < self.settings["at_start"]:
                self.start()
                kill_at_start(self)
            self.start(arguments, ranks=ranks)
            self.leg.wait_until(lambda: self.leg.first is not None, self.settings["hang_seconds"])
            if self.leg.first is not None:
                return self.close_faults()
            if self.leg.poll():
                self.hangs += 1
                self.problem(f"no step within {self.settings['hang_seconds']} s of a start, see {self.leg.log}")
                self.leg.end_at_once()
            else:
                self.problem(f"the job ended with {self.leg.process.returncode} before its first step, see {self.leg.log}")
        raise Hopeless(f"three starts in a row did not train; the last log is {self.leg.log}")

    def close_faults(self):
        seconds = now() - self.leg.began
        from_step = self.leg.first - 1
        for fault in self.open_faults:
            fault["recovered"] = True
            fault["seconds_to_new_step"] = round(seconds, 2)
            fault["resumed_from_step"] = from_step
            fault["steps_lost"] = max(0, fault["step"] - from_step)
            self.report(fault)
        self.open_faults = []
        if re.search(r"warning: checkpoint-\d+ cannot be used", self.leg.text()):
            self.corrupted.append(f"named by the program in {self.leg.log}")
            self.problem(f"the program found a damaged checkpoint, see {self.leg.log}")

    def report(self, fault):
        seconds = fault["seconds_to_detection"]
        detection = "NOT detected, " if not fault["detected"] else "" if seconds is None else f"detected {seconds:.1f} s, "
        self.say(
            f"{fault['number']:4}  {fault['kind']:14} rank {'-' if fault['rank'] is None else fault['rank']} of {fault['ranks']}, "
            f"step {fault['step']}: {detection}exit code {fault['exit_code']}, lost {fault['steps_lost']} steps, "
            f"new step after {fault['seconds_to_new_step']} s")

    # Faults: soak_faults.py injects them.

    def new_fault(self, kind, rank=None):
        fault = {
            "number": len(self.faults) + 1, "kind": kind, "time": time.time(), "leg": self.legs, "ranks": self.leg.ranks, "rank": rank,
            "step": self.leg.last, "detected": False, "seconds_to_detection": None, "seconds_to_end": None, "named_by": None,
            "exit_code": None, "recovered": False,
            "seconds_to_new_step": None, "resumed_from_step": None, "steps_lost": None}
        self.faults.append(fault)
        return fault

    def ended(self, fault, began, patterns):
        """Waits for the end of the job and looks at what it left. Detected is a fault when the log names it, or all ranks are gone."""
        def name(is_warning=False):
            lines = [line for line in self.leg.text().splitlines() if line.startswith("warning: ") == is_warning]
            return next((line for pattern in patterns for line in lines if re.search(pattern, line)), None)

        self.leg.wait_until(name, self.settings["hang_seconds"])
        seconds = round(now() - began, 2)
        if not self.leg.wait_for_end(self.settings["hang_seconds"]):
            self.hangs += 1
            left = sorted(self.leg.alive().values())
            self.problem(f"{fault['kind']}: ranks {left} are there {self.settings['hang_seconds']} s later, see {self.leg.log}")
            self.leg.end_at_once()
        else:
            fault["seconds_to_detection"] = seconds
            fault["seconds_to_end"] = round(now() - began, 2)
        fault["exit_code"] = self.leg.process.returncode
        # A launcher that gives a host up may do so in general terms; rank 0 has missed it before.
        fault["named_by"] = name() or name(is_warning=True)
        # What metrics.jsonl has was done, also where the end cut off the log; before the first step it is of the start before.
        seen = [self.leg.last, self.leg.resumed, self.last_metric() if self.leg.first else None]
        fault["step"] = max(filter(None, seen), default=0)
        self.verify()
        self.open_faults.append(fault)

    def last_metric(self):
        try:
            lines = (self.folder / "metrics.jsonl").read_bytes().splitlines()
        except OSError:
            return None
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):
                continue
        return None

    def verify(self):
        found = damaged_checkpoints(self.folder)
        self.verified += len(checkpoints(self.folder))
        self.corrupted += found
        for text in found:
            self.problem(f"damaged checkpoint: {text}")

    # The whole.

    def next_kind(self):
        """Every kind comes equally often, in random order."""
        if not self.bag:
            self.bag = list(self.settings["kinds"])
            self.random.shuffle(self.bag)
        return self.bag.pop()

    def disturbed(self):
        end = now() + self.settings["duration"]
        self.restart()
        while now() < end:
            pause = self.random.uniform(0.5, 1.5) * self.settings["fault_every"]
            self.leg.wait_until(lambda: now() > end, min(pause, max(0.0, end - now())))
            if now() > end:
                break
            self.watch()
            if self.leg.poll():
                INJECT[self.next_kind()](self)
            if not self.leg.poll():
                self.restart()
        # The end is one more signal; what is left of the steps goes to the end without a fault, where the undisturbed run saves too.
        signal_rank(self, signal.SIGTERM, "term-rank")
        newest = max(number for number, _ in checkpoints(self.folder))
        self.steps = (newest // self.settings["save_steps"] + 1) * self.settings["save_steps"]
        self.restart([f"max_steps={self.steps}", "--resume"])
        if not self.leg.wait_for_end(self.settings["hang_seconds"] + 10 * self.settings["save_seconds"]):
            self.hangs += 1
            self.problem(f"the last start did not reach its last step, see {self.leg.log}")
            self.leg.end_at_once()
        if self.leg.process.returncode != 0:
            self.problem(f"the last start ended with {self.leg.process.returncode}, see {self.leg.log}")
        self.verify()

    def watch(self):
        """A run that nobody harms must go on."""
        if not self.leg.poll():
            self.problem(f"the job ended by itself with {self.leg.process.returncode}, see {self.leg.log}")
            return
        step = self.leg.last
        if not self.leg.wait_until(lambda: self.leg.last > step, self.settings["hang_seconds"]):
            self.hangs += 1
            self.problem(f"no step in {self.settings['hang_seconds']} s without a fault, see {self.leg.log}")
            self.leg.end_at_once()

    def run(self):
        still = None
        try:
            ranks = self.random.choice(self.settings["ranks"])
            self.say(f"the undisturbed run: {ranks} ranks")
            still = Undisturbed(self.settings, ranks)
            self.disturbed()
            if still.wait_for_step(self, self.steps):
                self.compared = still.compare(self, self.steps)
        except Hopeless as error:
            self.problem(str(error))
        finally:
            for leg in (self.leg, still and still.leg):
                if leg and leg.poll():
                    leg.end_at_once()
        return results(self)


def knows_key(settings, text):
    """Whether the program has a configuration key: an unknown one is named in its error."""
    tried = subprocess.run([settings["program"], "data", "--config", settings["config"], "--dump", "0", text],
                           capture_output=True, text=True, check=False)
    return "unknown key" not in tried.stdout + tried.stderr


def prepare(settings):
    """Settles what depends on the program and the machine: kinds of faults, and steps between checkpoints."""
    config = pathlib.Path(settings["config"])
    wanted, skipped = settings["kinds"], {}
    if "stop-rank" in wanted and not knows_key(settings, "watchdog_seconds=100"):
        skipped["stop-rank"] = "this orpo-dist has no watchdog"
    program = pathlib.Path(settings["program"]).read_bytes()
    for kind in ("flip-gradient", "flip-parameter"):
        if kind in wanted and kind.encode() not in program:
            skipped[kind] = "this orpo-dist has no such drill"
    between_hosts = ("link-short", "link-down", "silent-host")
    if max(settings["ranks"]) == 1:
        skipped |= {kind: "needs more than one rank" for kind in ("stop-rank", "flip-parameter", *between_hosts) if kind in wanted}
    if settings["hosts"] == 1:
        skipped |= {kind: "needs HOSTS=2 or more, and root" for kind in between_hosts if kind in wanted}
    if "disk-full" in wanted and not settings["has_small_disk"]:
        skipped["disk-full"] = "a small file system of its own needs root"
    settings["kinds"], settings["skipped"] = [kind for kind in wanted if kind not in skipped], skipped
    for kind, reason in skipped.items():
        print(f"left out: {kind}: {reason}")
    if not settings["save_steps"]:
        leg = Leg(settings, pathlib.Path(settings["disk"]) / "speed", "speed", max(settings["ranks"]), ["max_steps=8"])
        if not leg.wait_for_end(600) or leg.process.returncode != 0:
            leg.end_at_once()
            raise SystemExit(f"soak: the run that measures the time of a step failed, its log is {leg.log}")
        times = [float(value) for value in re.findall(r"  step_time ([0-9.e-]+)", leg.text())][1:]
        seconds = sorted(times)[len(times) // 2]
        settings["save_steps"] = max(2, round(settings["save_seconds"] / seconds))
        print(f"{seconds:.2f} s a step: a checkpoint every {settings['save_steps']} steps")
    with open(config, "a", encoding="utf-8") as file:
        file.write(f"save_steps: {settings['save_steps']}\neval_steps: {3 * settings['save_steps']}\n")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: ended by SIGTERM"))
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    prepare(settings)
    found = Soak(settings).run()
    out = pathlib.Path(settings["out"])
    (out / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (out / "table.md").write_text(table(found), encoding="utf-8")
    print("\n" + table(found), end="")
    sys.exit(0 if all(entry["met"] for entry in found["criteria"]) else 1)


if __name__ == "__main__":
    main()
