"""Checks what `orpo-dist data --dump N` printed against TRL's tokenization of the same rows.

    orpo-dist data --config FILE --dump 300 > dump.jsonl
    python compare_tokens_with_trl.py MODEL DATA dump.jsonl [--max-length 1024]

MODEL is a Hugging Face folder, DATA a .jsonl or .json file with `prompt`/`chosen`/`rejected` or `chosen`/`rejected` columns. Rows that
do not fit --max-length are not compared (TRL's truncation differs from release to release), rows that cannot be trained on (identical
or empty completions) must be absent. Exit code 1 when a row differs.
"""
import argparse
import functools
import json
import os
import sys
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
from transformers import AutoTokenizer
from trl.data_utils import maybe_apply_chat_template, maybe_extract_prompt
from trl.experimental.orpo import ORPOTrainer


def tokenize(tokenizer, row):
    """TRL's own methods, on what little of a trainer they need."""
    row = maybe_apply_chat_template(maybe_extract_prompt(row), processing_class=tokenizer)
    trainer = SimpleNamespace(is_encoder_decoder=False, processing_class=tokenizer, max_length=1 << 40)
    trainer.build_tokenized_answer = functools.partial(ORPOTrainer.build_tokenized_answer, trainer)
    made = ORPOTrainer.tokenize_row(trainer, row)
    # Identical texts, or nothing but the end token: no preference to learn.
    trainable = row["chosen"] != row["rejected"] and row["chosen"] and row["rejected"]
    return made, bool(trainable)


def describe(tokenizer, found, expected):
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    part = slice(max(at - 3, 0), at + 4)
    return (f"token {at}: found {found[part]} {tokenizer.decode(found[part])!r}, "
            f"TRL {expected[part]} {tokenizer.decode(expected[part])!r} (lengths {len(found)}, {len(expected)})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("dump")
    parser.add_argument("--max-length", type=int, default=1024)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    with open(arguments.data, encoding="utf-8") as file:
        rows = json.load(file) if arguments.data.endswith(".json") else [json.loads(line) for line in file if line.strip()]
    with open(arguments.dump, encoding="utf-8") as file:
        dumped = [json.loads(line) for line in file if line.startswith("{")]

    compared = skipped = different = 0
    position = 0
    columns = ("prompt", "chosen", "rejected")
    for number, row in enumerate(rows, 1):
        if position == len(dumped):
            break
        expected, trainable = tokenize(tokenizer, {key: row[key] for key in columns if key in row})
        if not trainable:
            continue
        found = dumped[position]
        longest = max(len(expected["chosen_input_ids"]), len(expected["rejected_input_ids"]))
        if longest > arguments.max_length:
            # Truncated or left out: take the dumped pair as this row's when it begins or ends as this row does.
            middle = found["chosen_input_ids"][1:17]
            text = expected["chosen_input_ids"]
            position += any(text[i:i + len(middle)] == middle for i in range(len(text)))
            skipped += 1
            continue
        position += 1
        compared += 1
        problems = [f"{name} {describe(tokenizer, found[name], expected[name])}"
                    for name in ("chosen_input_ids", "rejected_input_ids") if found[name] != expected[name]]
        # `rejected_prompt_length` is printed only where it differs.
        lengths = found["prompt_length"], found.get("rejected_prompt_length", found["prompt_length"])
        masked = tuple(expected[f"{branch}_labels"].count(-100) for branch in ("chosen", "rejected"))
        if lengths != masked:
            problems.append(f"prompt lengths {lengths}, TRL {masked}")
        if problems:
            different += 1
            print(f"{arguments.data}:{number}: " + "; ".join(problems))
    print(f"{compared} rows compared, {different} differ, {skipped} too long to compare, {len(dumped) - position} dumped pairs left over")
    sys.exit(1 if different or position != len(dumped) or not compared else 0)


if __name__ == "__main__":
    main()
