"""Writes trl.json and the compressed files of this folder, with TRL's own functions on a tiny tokenizer.

    python make_goldens.py        (needs trl, and the zstd command)

The tokenizer reads left to right and takes a two-character merge where one fits, otherwise one character; ids of characters are their
code points. Its chat template writes <role>content</role> lines. Both rules are repeated in TinyTokenizer.swift.
"""

import gzip
import json
import pathlib
import random
import subprocess
from types import SimpleNamespace

from trl.data_utils import maybe_apply_chat_template, maybe_extract_prompt
from trl.experimental.orpo.orpo_trainer import ORPOTrainer

HERE = pathlib.Path(__file__).parent
MERGES = {"ab": 200_001, "bc": 200_002, " t": 200_003, "t\n": 200_004, "éa": 200_005, "[B": 200_006}
SPECIAL = {"[BOS]": 1, "[EOS]": 2}


class TinyTokenizer:
    def __init__(self, bos, eos):
        self.bos_token_id, self.eos_token_id = bos, eos

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        ids, i = [], 0
        while i < len(text):
            for token, id in (SPECIAL | MERGES).items():
                if text.startswith(token, i):
                    ids.append(id)
                    i += len(token)
                    break
            else:
                ids.append(ord(text[i]))
                i += 1
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    def apply_chat_template(
        self, messages, tools=None, tokenize=True, add_generation_prompt=False, continue_final_message=False, opening="<"
    ):
        assert not tokenize and tools is None
        text = "[BOS]"
        for index, message in enumerate(messages):
            text += f"{opening}{message['role']}>{message['content']}"
            if not (continue_final_message and index == len(messages) - 1):
                text += f"</{message['role']}>\n"
        # The extra space makes the rendered prompt differ from the beginning of the whole conversation.
        return text + (f"{opening}assistant> " if add_generation_prompt else "")


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ROWS = [
    {"prompt": "Say a", "chosen": " thing", "rejected": " word"},
    {"prompt": "xa", "chosen": "bc", "rejected": "cc"},
    {"prompt": "xa", "chosen": "b", "rejected": "a"},
    {"prompt": "", "chosen": "yes", "rejected": "no"},
    {"prompt": "[BOS]hi", "chosen": "a[EOS]", "rejected": "b"},
    {"prompt": "a", "chosen": "b", "rejected": "bc"},
    {"prompt": "", "chosen": "[BOS]a", "rejected": "b"},
    {"prompt": "caf\u00e9", "chosen": "a\u0301x", "rejected": "\u00e1x"},
    {"prompt": "line t", "chosen": "\nnext", "rejected": "\r\nnext"},
    {"prompt": "🙂", "chosen": "👩\u200d👩\u200d👧", "rejected": "👩\u200d👩\u200d👦"},
    {"chosen": "Sky? It is blue", "rejected": "Sky? It was green"},
    {"chosen": "Sky? blue", "rejected": "Sky? green"},
    {"chosen": "Sky? It", "rejected": "Sky? It is"},
    {"chosen": "same ", "rejected": "same  more"},
    {"chosen": "blue", "rejected": "green"},
    {"chosen": "\r\nblue", "rejected": "\r\rblue"},
    {"chosen": "e\u0301a b", "rejected": "e\u0301\u0302 b"},
    {"chosen": "👩\u200d👩 ok", "rejected": "👩\u200d👧 no"},
    {"prompt": [user("Hi")], "chosen": [assistant("abc")], "rejected": [assistant("bcd")]},
    {"prompt": [{"role": "system", "content": "Be brief"}, user("Hi")], "chosen": [assistant("ok")],
     "rejected": [assistant("well ok")]},
    {"prompt": [user("Count"), assistant("one, t")], "chosen": [assistant("\nwo")], "rejected": [assistant("hree")]},
    {"prompt": [user("q"), {"role": "tool", "content": "42"}], "chosen": [assistant(" t")], "rejected": [assistant("a")]},
    {"prompt": [user("q")], "chosen": [assistant("a"), user("b"), assistant("c")], "rejected": [assistant("a")]},
    {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")],
     "chat_template_kwargs": {"opening": "[B"}},
    {"chosen": [user("Hi"), assistant("good")], "rejected": [user("Hi"), assistant("bad")]},
    {"chosen": [user("Hi"), assistant("a"), user("more"), assistant("good")],
     "rejected": [user("Hi"), assistant("a"), user("more"), assistant("bad")]},
    {"chosen": [user("Hi"), assistant("a")], "rejected": [{"content": "Hi", "role": "user"}, assistant("b"), user("c")]},
    {"chosen": [user("Hi"), assistant("a")], "rejected": [user("Hi"), assistant("a"), user("again")]},
    {"prompt": "Hi", "chosen": [user("Hi"), assistant("good")], "rejected": [user("Hi"), assistant("bad")]},
]


def random_rows(count):
    generator = random.Random(7)
    letters = ["a", "b", "c", " ", "t", "\n", "é", "[B", "[EOS]", "[BOS]", "🙂", "á"]
    rows = []
    while len(rows) < count:
        prompt, chosen, rejected = ("".join(generator.choices(letters, k=generator.randint(low, 6))) for low in (0, 1, 1))
        if chosen != rejected:
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def tokenized(trainer, example):
    try:
        return ORPOTrainer.tokenize_row(trainer, example)
    except ValueError as error:
        return str(error)


def main():
    cases = []
    for row in ROWS + random_rows(150):
        for bos, eos in [(None, 2), (1, 2)]:
            tokenizer = TinyTokenizer(bos, eos)
            trainer = SimpleNamespace(processing_class=tokenizer, is_encoder_decoder=False, max_length=10**6)
            trainer.build_tokenized_answer = lambda p, a, t=trainer: ORPOTrainer.build_tokenized_answer(t, p, a)
            copy = json.loads(json.dumps(row))
            # As datasets' map does it: the new columns are put over the old ones.
            copy |= maybe_extract_prompt(copy)
            text = copy | maybe_apply_chat_template(copy, tokenizer)
            batch = tokenized(trainer, text)
            if isinstance(batch, str):
                continue  # TRL refuses the row.
            if batch["chosen_input_ids"] == batch["rejected_input_ids"]:
                continue
            if any(len(batch[f"{key}_input_ids"]) < 2 for key in ("chosen", "rejected")):
                continue  # A single token has no prediction: 0/0 in TRL.
            masked = [sum(label == -100 for label in batch[f"{key}_labels"]) for key in ("chosen", "rejected")]
            cases.append({
                "row": row, "bos": bos, "eos": eos,
                "text": {key: text[key] for key in ("prompt", "chosen", "rejected")},
                "chosen_input_ids": batch["chosen_input_ids"], "rejected_input_ids": batch["rejected_input_ids"],
                "prompt_lengths": masked,
            })
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / "trl.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    plain = "".join(json.dumps({"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}"}) + "\n" for i in range(2000))
    first, second = plain[: len(plain) // 2].encode(), plain[len(plain) // 2 :].encode()
    array = ("[" + ",\n".join(plain.splitlines()) + "]").encode()
    (HERE / "rows.jsonl.gz").write_bytes(gzip.compress(first, mtime=0) + gzip.compress(second, mtime=0))
    (HERE / "rows.json.gz").write_bytes(gzip.compress(array, mtime=0))

    def zstd(data):
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout

    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    (HERE / "rows.jsonl.zst").write_bytes(zstd(first) + skippable + zstd(second))
    (HERE / "rows.json.zst").write_bytes(zstd(array))


if __name__ == "__main__":
    main()
