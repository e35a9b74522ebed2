"""The driver of benchmarks/soak.sh: trains, injects faults, restarts, and checks what is left.

    soak.py SETTINGS.json       prints the table, writes results.json; exit code 1 when a criterion is missed
"""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from soak_checkpoints import checkpoints, damaged_checkpoints, losses, same_bytes
from soak_job import Leg, now, send
from soak_results import results, table

START_AGAIN = 75
# Steps of a run that is ended from outside; with a constant learning rate they decide nothing else.
MANY_STEPS = 100_000_000


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
                self.kill_at_start()
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

    # Faults.

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

    def choose_rank(self):
        """Process id and rank of one that is there; None when the job has none (yet)."""
        self.leg.find_ranks()
        alive = sorted(self.leg.alive().items(), key=lambda item: item[1])
        return self.random.choice(alive) if alive else (None, None)

    def kill_rank(self, kind="kill-rank"):
        pid, rank = self.choose_rank()
        fault = self.new_fault(kind, rank)
        began = now()
        send(pid or self.leg.mpirun or self.leg.process.pid, signal.SIGKILL)
        self.ended(fault, began, [rf"rank {rank}\b.*signal 9", rf"rank {rank}\b.*(?:Killed|lost|died)"])
        fault["detected"] = fault["seconds_to_detection"] is not None and fault["exit_code"] not in (0, START_AGAIN)

    def kill_at_start(self):
        time.sleep(self.random.uniform(0.1, 2.0))
        if not self.leg.poll():
            return self.problem(f"the job ended with {self.leg.process.returncode} while it started, see {self.leg.log}")
        self.kill_rank("kill-at-start")

    def kill_mpirun(self):
        fault = self.new_fault("kill-mpirun")
        began = now()
        send(self.leg.mpirun, signal.SIGKILL)
        # Nobody is left to say anything: whoever started mpirun has its exit code.
        self.ended(fault, began, [])
        fault["detected"] = fault["seconds_to_detection"] is not None

    def signal_rank(self, number, kind):
        pid, rank = self.choose_rank()
        fault = self.new_fault(kind, rank)
        began = now()
        send(pid, number)
        self.ended(fault, began, [rf"{signal.Signals(number).name} to rank {rank}\b"])
        fault["detected"] = fault["exit_code"] == START_AGAIN
        if not fault["detected"]:
            self.problem(f"{kind}: exit code {fault['exit_code']} where {START_AGAIN} was expected, see {self.leg.log}")

    def need_ranks(self):
        """Of a job of one rank, nobody is there to miss it."""
        if self.leg.ranks == 1:
            self.signal_rank(signal.SIGTERM, "term-rank")
            self.restart(ranks=self.random.choice([number for number in self.settings["ranks"] if number > 1]))

    def stop_rank(self):
        self.need_ranks()
        pid, rank = self.choose_rank()
        fault = self.new_fault("stop-rank", rank)
        began = now()
        send(pid, signal.SIGSTOP)
        self.ended(fault, began, [rf"not heard of.*: rank {rank} of "])
        fault["detected"] = fault["seconds_to_detection"] is not None and fault["exit_code"] not in (0, START_AGAIN)

    def cut(self, host):
        subprocess.run([self.settings["emulated"], "cut", f"host{host}"], check=True)

    def join(self, host):
        """Gives the link back and waits until hosts reach each other again."""
        subprocess.run([self.settings["emulated"], "join", f"host{host}"], check=True)
        other = next(number for number in (1, 2) if number != host)
        # Nobody listens at that port: being refused is an answer.
        knock = f"exec 3<>/dev/tcp/host{other}/9"
        for _ in range(100):
            answer = subprocess.run([self.settings["emulated"], "exec", f"host{host}", "timeout", "1", "bash", "-c", knock],
                                    capture_output=True, text=True, check=False)
            if answer.returncode == 0 or "refused" in answer.stderr:
                return
        self.problem(f"host{host} does not reach host{other} though its link is there again")

    def cut_host(self, kind, seconds=None):
        """Takes the link of a host away, for good or for so long; either way it is taken for dead and its job ends."""
        self.need_ranks()
        host = self.random.randint(1, min(self.settings["hosts"], self.leg.ranks))
        fault = self.new_fault(kind)
        fault["host"] = f"host{host}"
        began = now()
        self.cut(host)
        if seconds:
            self.leg.wait_for_end(seconds)
            self.join(host)
        # mpirun may say it in place of a rank, and each end of the link of the other.
        self.ended(fault, began, [r"not heard of.* on host\d", r"Remote daemon *:.* on node host\d"])
        if not seconds:
            self.join(host)
        fault["detected"] = fault["seconds_to_detection"] is not None and fault["exit_code"] not in (0, START_AGAIN)

    def link_short(self):
        """The link is away for a moment: training waits, and nothing else happens."""
        self.need_ranks()
        host = self.random.randint(1, min(self.settings["hosts"], self.leg.ranks))
        fault = self.new_fault("link-short")
        fault["host"] = f"host{host}"
        self.cut(host)
        self.leg.wait_until(lambda: False, 4)
        self.join(host)
        joined, step = now(), self.leg.last
        went_on = self.leg.wait_until(lambda: self.leg.last > step, 30)
        if not went_on:
            self.problem(f"link-short: training did not go on, see {self.leg.log}")
            if not self.leg.poll():
                fault["exit_code"] = self.leg.process.returncode
        # Nobody is to take notice of it.
        fault.update(detected=went_on, recovered=went_on, steps_lost=0, seconds_to_new_step=round(now() - joined, 2))
        self.report(fault)

    def disk_full(self):
        fault = self.new_fault("disk-full")
        began = now()
        ballast = self.folder.parent / "ballast"
        before = len(re.findall(r"checkpoint-\d+ could not be saved", self.leg.text()))
        fill(ballast)

        def failed():
            return len(re.findall(r"checkpoint-\d+ could not be saved", self.leg.text())) > before

        seconds = self.settings["hang_seconds"] + 3 * self.settings["save_seconds"]
        saw = self.leg.wait_until(failed, seconds)
        ballast.unlink()
        freed = now()
        step = self.leg.last
        if saw:
            fault["detected"] = True
            fault["seconds_to_detection"] = round(freed - began, 2)
            fault["named_by"] = [line for line in self.leg.text().splitlines() if "could not be saved" in line][-1]
        fault["step"] = step
        if saw and self.leg.wait_until(lambda: self.leg.last > step, self.settings["hang_seconds"]):
            fault["seconds_to_new_step"] = round(now() - freed, 2)
            # The next save must succeed, before another fault comes.
            newest = max((number for number, _ in checkpoints(self.folder)), default=0)
            fault["recovered"] = self.leg.wait_until(
                lambda: any(number > max(newest, step) for number, _ in checkpoints(self.folder)), seconds)
            fault["steps_lost"] = 0
        if not fault["recovered"]:
            self.problem(f"disk-full: training did not go on to the next checkpoint, see {self.leg.log}")
            if not self.leg.poll():
                fault["exit_code"] = self.leg.process.returncode
        self.verify()
        self.report(fault)

    def drill(self, kind, ends):
        """Starts again with the order to flip a bit some steps from there, and waits until that is named."""
        self.signal_rank(signal.SIGUSR1, "usr1-rank")
        # Parameters can be compared with those of another rank only.
        ranks = self.random.choice([number for number in self.settings["ranks"] if number > 1 or not ends])
        rank = self.random.randrange(ranks)
        newest = max((number for number, _ in checkpoints(self.folder)), default=0)
        # What a gradient's norm usually is takes some steps to know.
        step = newest + self.random.randint(10, 16)
        if ends:
            # Ranks are compared before a save; in the steps between, one rank's parameters are spread to all and nothing differs.
            step = (step // self.settings["save_steps"] + 1) * self.settings["save_steps"]
        self.start(environment={"ORPO_DIST_DRILL": f"{kind}@step={step},rank={rank}"}, ranks=ranks)
        if not self.leg.wait_until(lambda: (self.leg.last or 0) >= step - 1, self.settings["hang_seconds"]):
            self.problem(f"{kind}: step {step - 1} was not reached, see {self.leg.log}")
            return self.leg.end_at_once()
        self.close_faults()
        fault = self.new_fault(kind, rank)
        began = now()
        if ends:
            if self.leg.wait_until(lambda: self.leg.last > step + 1, self.settings["hang_seconds"]):
                self.problem(f"{kind} in step {step} on rank {rank} was not found, see {self.leg.log}")
                self.leg.end_at_once()
            self.ended(fault, began, [rf"do not have the same parameters.*rank {rank}\b"])
            fault["detected"] = fault["exit_code"] == START_AGAIN
            return None

        def named():
            return next((line for line in self.leg.text().splitlines()
                         if re.search(rf"step {step} was computed again.*rank {rank}\b", line)), None)

        if self.leg.wait_until(named, self.settings["hang_seconds"]):
            fault.update(detected=True, named_by=named(), seconds_to_detection=round(now() - began, 2))
        named_at = now()
        fault["recovered"] = self.leg.wait_until(lambda: self.leg.last > step, self.settings["hang_seconds"])
        fault.update(step=step, steps_lost=0, seconds_to_new_step=round(now() - named_at, 2))
        return self.report(fault)

    # The whole.

    def next_kind(self):
        """Every kind comes equally often, in random order."""
        if not self.bag:
            self.bag = list(self.settings["kinds"])
            self.random.shuffle(self.bag)
        return self.bag.pop()

    def inject(self, kind):
        {"link-short": self.link_short, "link-down": lambda: self.cut_host(kind, 20), "silent-host": lambda: self.cut_host(kind),
         "kill-rank": self.kill_rank, "kill-mpirun": self.kill_mpirun, "stop-rank": self.stop_rank,
         "term-rank": lambda: self.signal_rank(signal.SIGTERM, kind),
         "usr1-rank": lambda: self.signal_rank(signal.SIGUSR1, kind),
         "disk-full": self.disk_full, "flip-gradient": lambda: self.drill(kind, ends=False),
         "flip-parameter": lambda: self.drill(kind, ends=True)}[kind]()

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
                self.inject(self.next_kind())
            if not self.leg.poll():
                self.restart()
        # The end is one more signal; what is left of the steps goes to the end without a fault, where the undisturbed run saves too.
        self.signal_rank(signal.SIGTERM, "term-rank")
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

    def start_undisturbed(self):
        """The same training on one host without a fault, beside it all; every checkpoint is kept."""
        ranks = self.random.choice(self.settings["ranks"])
        self.say(f"the undisturbed run: {ranks} ranks")
        self.still = Leg(self.settings, self.out / "undisturbed", "undisturbed", ranks,
                         [f"max_steps={MANY_STEPS}", "save_total_limit=null"], one_host=True)
        # mpirun's ranks inherit it: the run that is disturbed goes first.
        os.setpriority(os.PRIO_PROCESS, self.still.process.pid, 10)

    def undisturbed(self):
        """Waits until the undisturbed run has done the same steps; whether everything is equal."""
        leg, folder = self.still, self.out / "undisturbed"
        saved = folder / f"checkpoint-{self.steps}" / "checkpoint.json"
        while leg.poll() and not saved.exists():
            step = leg.last
            if not leg.wait_until(lambda: leg.last != step or saved.exists(), self.settings["hang_seconds"]) and leg.poll():
                self.hangs += 1
                self.problem(f"the undisturbed run stands still, see {leg.log}")
                leg.end_at_once()
        if not saved.exists():
            self.problem(f"the undisturbed run ended with {leg.process.returncode}, see {leg.log}")
            return False
        leg.end_at_once()
        last = f"checkpoint-{self.steps}"
        pairs = [("model.safetensors", f"{last}/model.safetensors"),
                 *[(name, name) for name in (f"{last}/model.safetensors", f"{last}/optimizer.safetensors")]]
        different = [ours for ours, theirs in pairs if not same_bytes(self.folder / ours, folder / theirs)]
        for name in different:
            self.problem(f"{name} differs from that of the undisturbed run, or is missing")
        ours, theirs = losses(self.folder), losses(folder)
        theirs = {step: loss for step, loss in theirs.items() if step <= self.steps}
        common = ours.keys() & theirs.keys()
        unequal = [step for step in sorted(common) if ours[step] != theirs[step]]
        if unequal:
            self.problem(f"the logged loss of {len(unequal)} steps differs, first at step {unequal[0]}")
        self.compared = {"ranks": leg.ranks, "files": [ours for ours, _ in pairs], "different": different,
                         "losses_equal": len(common) - len(unequal), "losses_unequal": len(unequal),
                         "losses_missing": len(theirs.keys() - ours.keys())}
        return not different

    still = None
    compared = None
    steps = None

    def run(self):
        equal = False
        try:
            self.start_undisturbed()
            self.disturbed()
            equal = self.undisturbed()
        except Hopeless as error:
            self.problem(str(error))
        finally:
            for leg in (self.leg, self.still):
                if leg and leg.poll():
                    leg.end_at_once()
        return results(self, equal)


def fill(path):
    """Writes a file until nothing more fits on its file system."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for size in (1 << 20, 1 << 12):
            block = bytes(size)
            try:
                while True:
                    os.write(handle, block)
            except OSError:
                continue
    finally:
        os.close(handle)


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
