"""The run that nobody disturbs, beside the one of benchmarks/soak.py, and the comparison of the two."""
import os
import pathlib

from soak_checkpoints import losses, same_bytes
from soak_job import MANY_STEPS, Leg


class Undisturbed:
    """The same training on one host without a fault; every checkpoint is kept."""

    def __init__(self, settings, ranks):
        self.hang_seconds = settings["hang_seconds"]
        self.folder = pathlib.Path(settings["out"]) / "undisturbed"
        self.leg = Leg(settings, self.folder, "undisturbed", ranks, [f"max_steps={MANY_STEPS}", "save_total_limit=null"], one_host=True)
        # mpirun's ranks inherit it: the run that is disturbed goes first.
        os.setpriority(os.PRIO_PROCESS, self.leg.process.pid, 10)

    def wait_for_step(self, soak, step):
        """Waits until the checkpoint of that step is there, and ends the run; whether it came to that."""
        leg, saved = self.leg, self.folder / f"checkpoint-{step}" / "checkpoint.json"
        while leg.poll() and not saved.exists():
            last = leg.last
            if not leg.wait_until(lambda: leg.last != last or saved.exists(), self.hang_seconds) and leg.poll():
                soak.hangs += 1
                soak.problem(f"the undisturbed run stands still, see {leg.log}")
                leg.end_at_once()
        if not saved.exists():
            soak.problem(f"the undisturbed run ended with {leg.process.returncode}, see {leg.log}")
            return False
        leg.end_at_once()
        return True

    def compare(self, soak, step):
        """Parameters, moments and every logged loss of the two runs up to a step; what differs is a problem of the soak."""
        last = f"checkpoint-{step}"
        files = [("model.safetensors", f"{last}/model.safetensors"),
                 *[(name, name) for name in (f"{last}/model.safetensors", f"{last}/optimizer.safetensors")]]
        different = [ours for ours, theirs in files if not same_bytes(soak.folder / ours, self.folder / theirs)]
        for name in different:
            soak.problem(f"{name} differs from that of the undisturbed run, or is missing")
        ours, theirs = losses(soak.folder), losses(self.folder)
        theirs = {number: loss for number, loss in theirs.items() if number <= step}
        common = ours.keys() & theirs.keys()
        unequal = [number for number in sorted(common) if ours[number] != theirs[number]]
        if unequal:
            soak.problem(f"the logged loss of {len(unequal)} steps differs, first at step {unequal[0]}")
        return {"ranks": self.leg.ranks, "files": [ours for ours, _ in files], "different": different,
                "losses_equal": len(common) - len(unequal), "losses_unequal": len(unequal),
                "losses_missing": len(theirs.keys() - ours.keys())}
