"""Compares every checkpoint of an output folder with its checksums, without the program's help.

    python3 benchmarks/soak_checkpoints.py OUTPUT_DIR
"""
import json
import pathlib
import sys

MASK = (1 << 64) - 1


def stripe64(path):
    """The checksum of Sources/ModelFiles/StripeHash.swift."""
    prime = 0x9FB21C651E98DF25
    lanes = [prime * (2 * lane + 1) & MASK for lane in range(1, 9)]
    length = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            length += len(block)
            block += bytes(-len(block) % 64)
            words = memoryview(block).cast("Q")
            for lane in range(8):
                value = lanes[lane]
                for word in words[lane::8]:
                    value = (value ^ word) * prime & MASK
                    value ^= value >> 32
                lanes[lane] = value
    result = length * 0xD6E8FEB86659FD93 & MASK
    for lane in lanes:
        result = (result ^ lane) * prime & MASK
        result ^= result >> 32
    result = (result ^ result >> 32) * prime & MASK
    return result ^ result >> 29


def checkpoints(folder):
    """Steps and folders of all checkpoints, oldest first."""
    found = [(int(path.name[11:]), path) for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(found)


def damage(checkpoint, step):
    """What is wrong with a checkpoint; None when nothing is."""
    try:
        manifest = json.loads((checkpoint / "checkpoint.json").read_bytes())
        if manifest["checksum"] != "stripe64" or manifest["step"] != step:
            return f"checkpoint.json has checksum {manifest['checksum']} and step {manifest['step']}"
        names = {entry["name"] for entry in manifest["files"]}
        for needed in ("config.json", "optimizer.safetensors", "training_state.json"):
            if needed not in names:
                return f"checkpoint.json does not list {needed}"
        for entry in manifest["files"]:
            path = checkpoint / entry["name"]
            size = path.stat().st_size
            if size != entry["size"]:
                return f"{entry['name']} has {size} bytes, checkpoint.json says {entry['size']}"
            if (checksum := stripe64(path)) != int(entry["checksum"], 16):
                return f"{entry['name']} has checksum {checksum:x}, checkpoint.json says {entry['checksum']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def damaged_checkpoints(folder):
    """What is wrong with which checkpoint; one that the run removes meanwhile is none any more."""
    return [f"{path}: {reason}" for step, path in checkpoints(folder) if (reason := damage(path, step)) and path.exists()]


def same_bytes(first, second):
    try:
        return first.read_bytes() == second.read_bytes()
    except OSError:
        return False


def losses(folder):
    """The logged loss by step."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "loss" in entry:
            found[entry["step"]] = entry["loss"]
    return found


def main():
    folder = pathlib.Path(sys.argv[1])
    found = damaged_checkpoints(folder)
    print("\n".join(found) or f"{len(checkpoints(folder))} checkpoints are as their checksums say")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
