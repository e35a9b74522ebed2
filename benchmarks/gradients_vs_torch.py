"""Checks every parameter's gradient of one real preference pair against PyTorch's.

    python benchmarks/gradients_vs_torch.py MODEL_FOLDER PAIRS.jsonl [--row 1] [--max-tokens 400] [--dtype float32]

Needs a Python with torch and transformers (benchmarks/requirements.txt) and the tests built. PyTorch computes the
pair's token log-probabilities, the ORPO loss and all gradients by automatic differentiation, its two sequences each on
their own: nothing is packed or shared. They go into a scratch folder, and the test suite RealModelTests compares what
the decoder computes for the same pair: log-probabilities, loss, and the gradient of each parameter, which must agree
within 1e-4 of its own norm. --keep FOLDER keeps the golden values and does not run the test.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=pathlib.Path, help="Hugging Face folder with safetensors")
    parser.add_argument("pairs", type=pathlib.Path, help="JSON lines with conversational prompt, chosen, rejected")
    parser.add_argument("--row", type=int, default=1, help="line of the file, counted from 1; the first that fits from there")
    parser.add_argument("--max-tokens", type=int, default=400, help="longest sequence to take")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="precision of PyTorch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of the odds-ratio term")
    parser.add_argument("--keep", type=pathlib.Path, help="write the golden values here and stop")
    return parser.parse_args()


def token_ids(row, tokenizer):
    """Both whole sequences and the prompt's length, by the rule of docs/data.md (BOS and EOS added where they lack)."""
    def ids(messages, **options):
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = tokenizer.bos_token_id
        return found if bos is None or found[:1] == [bos] else [bos] + found

    prompt = ids(row["prompt"], add_generation_prompt=True)
    pair = {}
    for name in ("chosen", "rejected"):
        whole = ids(row["prompt"] + row[name])
        if whole[:len(prompt)] != prompt:
            return None
        if tokenizer.eos_token_id is not None and whole[-1] != tokenizer.eos_token_id:
            whole = whole + [tokenizer.eos_token_id]
        pair[name] = whole
        pair[name + "_prompt_length"] = len(prompt)
    return pair


def find_pair(options, tokenizer):
    with open(options.pairs) as lines:
        for number, line in enumerate(lines, 1):
            if number < options.row:
                continue
            pair = token_ids(json.loads(line), tokenizer)
            if pair and max(len(pair["chosen"]), len(pair["rejected"])) <= options.max_tokens:
                return number, pair
    sys.exit(f"{options.pairs}: no row from {options.row} on has sequences of at most {options.max_tokens} tokens")


def log_probabilities(model, sequence):
    ids = torch.tensor([sequence])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0]


def log_odds(a):
    return a - torch.log(-torch.expm1(a))


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    row, pair = find_pair(options, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.dtype), attn_implementation="eager").eval()

    chosen, rejected = (log_probabilities(model, pair[name]) for name in ("chosen", "rejected"))
    start = pair["chosen_prompt_length"] - 1
    nll = -chosen.mean()
    z = log_odds(chosen[start:].mean()) - log_odds(rejected[start:].mean())
    log_odds_ratio = torch.nn.functional.logsigmoid(z)
    loss = nll - options.alpha * log_odds_ratio
    loss.backward()
    print(f"PyTorch {torch.__version__}, {options.dtype}: {options.pairs.name}:{row}, {len(pair['chosen'])} and "
          f"{len(pair['rejected'])} tokens, {start + 1} of them prompt; loss {loss.item():.6f}, z {z.item():.4f}")

    golden = {f"grad.{name}": value.grad.float().contiguous() for name, value in model.named_parameters()}
    golden["logps.0.chosen"] = chosen.detach().float().contiguous()
    golden["logps.0.rejected"] = rejected.detach().float().contiguous()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for file in [options.model / "config.json", *options.model.glob("model*.safetensors*")]:
            link = folder / file.name
            link.unlink(missing_ok=True)
            link.symlink_to(file.resolve())
        save_file(golden, folder / "golden.safetensors")
        (folder / "pairs.json").write_text(json.dumps({
            "alpha": options.alpha, "temperature": 1.0, "loss": loss.item(), "nll_loss": nll.item(),
            "log_odds_ratio": log_odds_ratio.item(), "pairs": [pair]}) + "\n")
        if options.keep:
            return
        command = ["swift", "test", "-c", "release", "--disable-xctest", "--filter", "RealModelTests"]
        repository = pathlib.Path(__file__).resolve().parent.parent
        environment = {**os.environ, "ORPO_DIST_REAL_MODEL": str(folder.resolve())}
        sys.exit(subprocess.run(command, cwd=repository, env=environment).returncode)


if __name__ == "__main__":
    main()
