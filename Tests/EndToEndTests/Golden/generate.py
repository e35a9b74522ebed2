"""Writes two tiny random models with tokenizers, preference pairs, and what TRL's ORPOTrainer makes of them.

    python generate.py        (made with torch 2.13, transformers 5.23, trl 1.16, on the CPU in fp32)

    pairs.jsonl, chat.jsonl      the data: strings, and conversations
    llama/, mistral/             Hugging Face folders. llama: byte-level BPE, tied, grouped queries, a pad token that is the end token
                                 and occurs inside texts. mistral: SentencePiece-style BPE with byte fallback, sliding window, untied
    <model>/pairs-tokens.jsonl, <model>/chat-tokens.jsonl
                                 the token ids TRL makes of every row, and how many of each sequence are the prompt
    <model>/trajectory.json      per run: the settings that differ from the defaults, and what TRL logged at each of ten steps

TRL logs the mean over the micro-batches of a step; a metric of a micro-batch is its mean over pairs, its nll_loss the mean over its
tokens. Rows are taken in file order.
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          PreTrainedTokenizerFast)
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import texts

HERE = pathlib.Path(__file__).parent
STEPS, MAX_LENGTH = 10, 256
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}")
RUNS = {
    # Batch 1: what `loss_normalization: pair` gives.
    "batch1": dict(per_device_train_batch_size=1, gradient_accumulation_steps=4, learning_rate=1e-3),
    "batch4": dict(per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=2e-3, warmup_steps=2,
                   weight_decay=0.1, beta=0.25),
}
LOGGED = ["loss", "nll_loss", "log_odds_ratio", "log_odds_chosen", "rewards/chosen", "rewards/rejected", "rewards/accuracies",
          "rewards/margins", "logps/chosen", "logps/rejected", "grad_norm", "learning_rate"]


def corpus():
    for row in texts.rows():
        yield row["prompt"] + row["chosen"] + row["rejected"]


def byte_level_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|begin|>", "<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>",
                                   chat_template=CHAT_TEMPLATE)


def sentencepiece_style_tokenizer():
    """Trained with a pre-tokenizer, so that merges stay inside words, and used without, as Llama 2's is."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    trained.train_from_iterator((t for t in corpus() if t.isascii()), trainers.BpeTrainer(vocab_size=260, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [piece for piece, _ in sorted(learned["vocab"].items(), key=lambda item: item[1]) if piece not in pieces]
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)},
                                     merges=[tuple(merge) for merge in learned["merges"]], unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                                   pad_token="</s>", chat_template=CHAT_TEMPLATE)


def make_model(name, tokenizer, seed):
    special = dict(vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                   max_position_embeddings=256)
    if name == "llama":
        model = LlamaForCausalLM(LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            rms_norm_eps=1e-5, tie_word_embeddings=True, pad_token_id=tokenizer.eos_token_id, **special))
    else:
        model = MistralForCausalLM(MistralConfig(
            hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=8,
            rms_norm_eps=1e-6, sliding_window=16, tie_word_embeddings=False, **special))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            values.copy_(1 + 0.1 * noise if "norm" in parameter else 0.2 * noise)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def trainer(folder, rows, dtype=torch.float32, **settings):
    config = ORPOConfig(output_dir=tempfile.mkdtemp(), max_steps=STEPS, max_length=MAX_LENGTH, logging_steps=1, report_to=[],
                        save_strategy="no", use_cpu=True, train_sampling_strategy="sequential", disable_tqdm=True, bf16=False,
                        gradient_checkpointing=False, **settings)
    return ORPOTrainer(model=AutoModelForCausalLM.from_pretrained(folder, dtype=dtype), args=config,
                       train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(folder))


def write_tokens(path, dataset):
    lines = []
    for row in dataset:
        assert max(len(row["chosen_input_ids"]), len(row["rejected_input_ids"])) < MAX_LENGTH
        lines.append(json.dumps({
            "chosen_input_ids": row["chosen_input_ids"], "rejected_input_ids": row["rejected_input_ids"],
            "chosen_prompt_length": row["chosen_labels"].count(-100), "rejected_prompt_length": row["rejected_labels"].count(-100)}))
    path.write_text("\n".join(lines) + "\n")


def run(folder, rows, settings, dtype=torch.float32):
    made = trainer(folder, rows, dtype, **settings)
    made.train()
    return [{name: log[name] for name in LOGGED} for log in made.state.log_history if "loss" in log], made


def main():
    rows, conversations = list(texts.rows()), list(texts.conversations())
    for name, data in (("pairs", rows), ("chat", conversations)):
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data))
    for seed, (name, tokenizer) in enumerate({"llama": byte_level_tokenizer(), "mistral": sentencepiece_style_tokenizer()}.items()):
        folder = HERE / name
        make_model(name, tokenizer, seed)
        golden = {}
        for run_name, settings in RUNS.items():
            steps, made = run(folder, rows, settings)
            assert len(steps) == STEPS
            golden[run_name] = {"settings": settings, "steps": steps}
            if "--noise" in sys.argv:
                # How far fp64 weights take the same run: what a correct fp32 run may differ by.
                double, _ = run(folder, rows, settings, torch.float64)
                noise = {key: max(abs(a[key] - b[key]) / max(abs(a[key]), 1e-6) for a, b in zip(steps, double)) for key in LOGGED}
                print(name, run_name, {key: f"{value:.1e}" for key, value in noise.items()})
        write_tokens(folder / "pairs-tokens.jsonl", made.train_dataset)
        write_tokens(folder / "chat-tokens.jsonl", trainer(folder, conversations).train_dataset)
        body = ",\n ".join(f'"{run_name}": {{"settings": {json.dumps(golden[run_name]["settings"])}, "steps": [\n  '
                           + ",\n  ".join(json.dumps(step) for step in golden[run_name]["steps"]) + "\n ]}" for run_name in golden)
        (folder / "trajectory.json").write_text("{\n " + body + "\n}\n")


if __name__ == "__main__":
    main()
