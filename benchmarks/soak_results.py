"""What a soak has found, for benchmarks/soak.py."""


def results(soak):
    """Everything that happened, and the criteria."""
    settings, faults = soak.settings, soak.faults
    equal = soak.compared is not None and not soak.compared["different"]
    lost = [fault["steps_lost"] for fault in faults if fault["steps_lost"] is not None]
    signals = [fault["steps_lost"] for fault in faults if fault["kind"] in ("term-rank", "usr1-rank")]
    # Of a killed mpirun nobody can tell, of a start only mpirun.
    nameless = ("kill-mpirun", "kill-at-start", "link-short")
    unnamed = [fault for fault in faults if not fault["named_by"] and fault["kind"] not in nameless]
    criteria = [
        (f"at least {settings['min_faults']} faults", len(faults) >= settings["min_faults"], len(faults)),
        ("every fault detected", all(f["detected"] for f in faults), sum(f["detected"] for f in faults)),
        ("every fault named, but for a killed mpirun, kills at a start and short breaks of a link",
         not unnamed, len(faults) - len(unnamed)),
        ("every fault recovered from", all(f["recovered"] for f in faults), sum(f["recovered"] for f in faults)),
        (f"at most {settings['save_steps']} steps (one save interval) lost per fault",
         all(number <= settings["save_steps"] for number in lost), max(lost, default=0)),
        ("nothing lost by a signal", all(number == 0 for number in signals), max(filter(None, signals), default=0)),
        *noticed(f"a killed rank noticed within {settings['kill_seconds']} s", faults, ("kill-rank",), settings["kill_seconds"]),
        *noticed(f"a stopped rank or a silent host noticed within {settings['stop_seconds']} s", faults,
                 ("stop-rank", "silent-host", "link-down"), settings["stop_seconds"]),
        ("no damaged checkpoint", not soak.corrupted, len(soak.corrupted)),
        ("no hang", soak.hangs == 0, soak.hangs),
        ("final parameters and moments equal those of the undisturbed run, bit for bit", equal, equal),
        ("nothing else went wrong", not soak.problems, len(soak.problems)),
    ]
    return {
        "settings": settings, "faults": faults, "problems": soak.problems, "corrupted": soak.corrupted, "hangs": soak.hangs,
        "starts": soak.legs, "changes_of_ranks": soak.rank_changes, "checkpoints_verified": soak.verified,
        "steps": soak.steps, "compared": soak.compared,
        "criteria": [{"criterion": text, "met": bool(met), "found": found} for text, met, found in criteria]}


def noticed(text, faults, kinds, limit):
    """The criterion that faults of these kinds were detected in time, where there were any."""
    seconds = [fault["seconds_to_detection"] for fault in faults if fault["kind"] in kinds]
    if not seconds:
        return []
    return [(text, all(s is not None and s <= limit for s in seconds), max(filter(None, seconds), default=None))]


def table(results):
    """The results as Markdown."""
    def worst(faults, key):
        values = [fault[key] for fault in faults if fault[key] is not None]
        return max(values) if values else "-"

    lines = ["| fault | injected | detected | named | recovered | longest to detection s | to its end s | to a new step s | most steps lost |",
             "|---|---|---|---|---|---|---|---|---|"]
    for kind in [*sorted({fault["kind"] for fault in results["faults"]}), None]:
        faults = [fault for fault in results["faults"] if kind in (None, fault["kind"])]
        counts = " | ".join(str(sum(bool(fault[key]) for fault in faults)) for key in ("detected", "named_by", "recovered"))
        lines.append(f"| {kind or 'all'} | {len(faults)} | {counts} | {worst(faults, 'seconds_to_detection')} | "
                     f"{worst(faults, 'seconds_to_end')} | {worst(faults, 'seconds_to_new_step')} | {worst(faults, 'steps_lost')} |")
    lines += ["", f"{results['starts']} starts, {results['changes_of_ranks']} of them on another number of ranks than before; "
              f"{results['checkpoints_verified']} checkpoints compared with their checksums; {results['steps']} steps in all."]
    if results["compared"]:
        compared = results["compared"]
        lines += [f"Undisturbed run on {compared['ranks']} rank(s): the logged loss of {compared['losses_equal']} steps equals, of "
                  f"{compared['losses_unequal']} differs, of {compared['losses_missing']} is not in metrics.jsonl."]
    lines += [f"Left out: {kind}: {reason}." for kind, reason in results["settings"]["skipped"].items()]
    lines += ["", "| criterion | found | |", "|---|---|---|"]
    lines += [f"| {entry['criterion']} | {entry['found']} | {'met' if entry['met'] else 'MISSED'} |" for entry in results["criteria"]]
    if results["problems"]:
        lines += ["", "Problems:", "", *(f"- {text}" for text in results["problems"])]
    return "\n".join(lines) + "\n"
