"""The faults that benchmarks/soak.py injects: each function does the harm, and notes what followed."""
import os
import re
import signal
import subprocess
import time

from soak_checkpoints import checkpoints
from soak_job import START_AGAIN, now, send


def choose_rank(soak):
    """Process id and rank of one that is there; None when the job has none (yet)."""
    soak.leg.find_ranks()
    alive = sorted(soak.leg.alive().items(), key=lambda item: item[1])
    return soak.random.choice(alive) if alive else (None, None)


def kill_rank(soak, kind="kill-rank"):
    pid, rank = choose_rank(soak)
    fault = soak.new_fault(kind, rank)
    began = now()
    send(pid or soak.leg.mpirun or soak.leg.process.pid, signal.SIGKILL)
    soak.ended(fault, began, [rf"rank {rank}\b.*signal 9", rf"rank {rank}\b.*(?:Killed|lost|died)"])
    fault["detected"] = fault["seconds_to_detection"] is not None and fault["exit_code"] not in (0, START_AGAIN)


def kill_at_start(soak):
    time.sleep(soak.random.uniform(0.1, 2.0))
    if not soak.leg.poll():
        return soak.problem(f"the job ended with {soak.leg.process.returncode} while it started, see {soak.leg.log}")
    kill_rank(soak, "kill-at-start")


def kill_mpirun(soak):
    fault = soak.new_fault("kill-mpirun")
    began = now()
    send(soak.leg.mpirun, signal.SIGKILL)
    # Nobody is left to say anything: whoever started mpirun has its exit code.
    soak.ended(fault, began, [])
    fault["detected"] = fault["seconds_to_detection"] is not None


def signal_rank(soak, number, kind):
    pid, rank = choose_rank(soak)
    fault = soak.new_fault(kind, rank)
    began = now()
    send(pid, number)
    soak.ended(fault, began, [rf"{signal.Signals(number).name} to rank {rank}\b"])
    fault["detected"] = fault["exit_code"] == START_AGAIN
    if not fault["detected"]:
        soak.problem(f"{kind}: exit code {fault['exit_code']} where {START_AGAIN} was expected, see {soak.leg.log}")


def need_ranks(soak):
    """Of a job of one rank, nobody is there to miss it."""
    if soak.leg.ranks == 1:
        signal_rank(soak, signal.SIGTERM, "term-rank")
        soak.restart(ranks=soak.random.choice([number for number in soak.settings["ranks"] if number > 1]))


def stop_rank(soak):
    need_ranks(soak)
    pid, rank = choose_rank(soak)
    fault = soak.new_fault("stop-rank", rank)
    began = now()
    send(pid, signal.SIGSTOP)
    soak.ended(fault, began, [rf"not heard of.*: rank {rank} of "])
    fault["detected"] = fault["seconds_to_detection"] is not None and fault["exit_code"] not in (0, START_AGAIN)


def cut(soak, host):
    subprocess.run([soak.settings["emulated"], "cut", f"host{host}"], check=True)


def join(soak, host):
    """Gives the link back and waits until hosts reach each other again."""
    subprocess.run([soak.settings["emulated"], "join", f"host{host}"], check=True)
    other = next(number for number in (1, 2) if number != host)
    # Nobody listens at that port: being refused is an answer.
    knock = f"exec 3<>/dev/tcp/host{other}/9"
    for _ in range(100):
        answer = subprocess.run([soak.settings["emulated"], "exec", f"host{host}", "timeout", "1", "bash", "-c", knock],
                                capture_output=True, text=True, check=False)
        if answer.returncode == 0 or "refused" in answer.stderr:
            return
    soak.problem(f"host{host} does not reach host{other} though its link is there again")


def cut_host(soak, kind, seconds=None):
    """Takes the link of a host away, for good or for so long; either way it is taken for dead and its job ends."""
    need_ranks(soak)
    host = soak.random.randint(1, min(soak.settings["hosts"], soak.leg.ranks))
    fault = soak.new_fault(kind)
    fault["host"] = f"host{host}"
    began = now()
    cut(soak, host)
    if seconds:
        soak.leg.wait_for_end(seconds)
        join(soak, host)
    # mpirun may say it in place of a rank, and each end of the link of the other.
    soak.ended(fault, began, [r"not heard of.* on host\d", r"Remote daemon *:.* on node host\d"])
    if not seconds:
        join(soak, host)
    fault["detected"] = fault["seconds_to_detection"] is not None and fault["exit_code"] not in (0, START_AGAIN)


def link_short(soak):
    """The link is away for a moment: training waits, and nothing else happens."""
    need_ranks(soak)
    host = soak.random.randint(1, min(soak.settings["hosts"], soak.leg.ranks))
    fault = soak.new_fault("link-short")
    fault["host"] = f"host{host}"
    cut(soak, host)
    soak.leg.wait_until(lambda: False, 4)
    join(soak, host)
    joined, step = now(), soak.leg.last
    went_on = soak.leg.wait_until(lambda: soak.leg.last > step, 30)
    if not went_on:
        soak.problem(f"link-short: training did not go on, see {soak.leg.log}")
        if not soak.leg.poll():
            fault["exit_code"] = soak.leg.process.returncode
    # Nobody is to take notice of it.
    fault.update(detected=went_on, recovered=went_on, steps_lost=0, seconds_to_new_step=round(now() - joined, 2))
    soak.report(fault)


def disk_full(soak):
    fault = soak.new_fault("disk-full")
    began = now()
    ballast = soak.folder.parent / "ballast"
    before = len(re.findall(r"checkpoint-\d+ could not be saved", soak.leg.text()))
    fill(ballast)

    def failed():
        return len(re.findall(r"checkpoint-\d+ could not be saved", soak.leg.text())) > before

    seconds = soak.settings["hang_seconds"] + 3 * soak.settings["save_seconds"]
    saw = soak.leg.wait_until(failed, seconds)
    ballast.unlink()
    freed = now()
    step = soak.leg.last
    if saw:
        fault["detected"] = True
        fault["seconds_to_detection"] = round(freed - began, 2)
        fault["named_by"] = [line for line in soak.leg.text().splitlines() if "could not be saved" in line][-1]
    fault["step"] = step
    if saw and soak.leg.wait_until(lambda: soak.leg.last > step, soak.settings["hang_seconds"]):
        fault["seconds_to_new_step"] = round(now() - freed, 2)
        # The next save must succeed, before another fault comes.
        newest = max((number for number, _ in checkpoints(soak.folder)), default=0)
        fault["recovered"] = soak.leg.wait_until(
            lambda: any(number > max(newest, step) for number, _ in checkpoints(soak.folder)), seconds)
        fault["steps_lost"] = 0
    if not fault["recovered"]:
        soak.problem(f"disk-full: training did not go on to the next checkpoint, see {soak.leg.log}")
        if not soak.leg.poll():
            fault["exit_code"] = soak.leg.process.returncode
    soak.verify()
    soak.report(fault)


def drill(soak, kind, ends):
    """Starts again with the order to flip a bit some steps from there, and waits until that is named."""
    signal_rank(soak, signal.SIGUSR1, "usr1-rank")
    # Parameters can be compared with those of another rank only.
    ranks = soak.random.choice([number for number in soak.settings["ranks"] if number > 1 or not ends])
    rank = soak.random.randrange(ranks)
    newest = max((number for number, _ in checkpoints(soak.folder)), default=0)
    # What a gradient's norm usually is takes some steps to know.
    step = newest + soak.random.randint(10, 16)
    if ends:
        # Ranks are compared before a save; in the steps between, one rank's parameters are spread to all and nothing differs.
        step = (step // soak.settings["save_steps"] + 1) * soak.settings["save_steps"]
    soak.start(environment={"ORPO_DIST_DRILL": f"{kind}@step={step},rank={rank}"}, ranks=ranks)
    if not soak.leg.wait_until(lambda: (soak.leg.last or 0) >= step - 1, soak.settings["hang_seconds"]):
        soak.problem(f"{kind}: step {step - 1} was not reached, see {soak.leg.log}")
        return soak.leg.end_at_once()
    soak.close_faults()
    fault = soak.new_fault(kind, rank)
    began = now()
    if ends:
        if soak.leg.wait_until(lambda: soak.leg.last > step + 1, soak.settings["hang_seconds"]):
            soak.problem(f"{kind} in step {step} on rank {rank} was not found, see {soak.leg.log}")
            soak.leg.end_at_once()
        soak.ended(fault, began, [rf"do not have the same parameters.*rank {rank}\b"])
        fault["detected"] = fault["exit_code"] == START_AGAIN
        return None

    def named():
        return next((line for line in soak.leg.text().splitlines()
                     if re.search(rf"step {step} was computed again.*rank {rank}\b", line)), None)

    if soak.leg.wait_until(named, soak.settings["hang_seconds"]):
        fault.update(detected=True, named_by=named(), seconds_to_detection=round(now() - began, 2))
    named_at = now()
    fault["recovered"] = soak.leg.wait_until(lambda: soak.leg.last > step, soak.settings["hang_seconds"])
    fault.update(step=step, steps_lost=0, seconds_to_new_step=round(now() - named_at, 2))
    return soak.report(fault)


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


INJECT = {
    "kill-rank": kill_rank,
    "kill-mpirun": kill_mpirun,
    "term-rank": lambda soak: signal_rank(soak, signal.SIGTERM, "term-rank"),
    "usr1-rank": lambda soak: signal_rank(soak, signal.SIGUSR1, "usr1-rank"),
    "stop-rank": stop_rank,
    "silent-host": lambda soak: cut_host(soak, "silent-host"),
    "link-down": lambda soak: cut_host(soak, "link-down", seconds=20),
    "link-short": link_short,
    "disk-full": disk_full,
    "flip-gradient": lambda soak: drill(soak, "flip-gradient", ends=False),
    "flip-parameter": lambda soak: drill(soak, "flip-parameter", ends=True),
}
