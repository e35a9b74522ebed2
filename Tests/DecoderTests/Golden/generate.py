"""Writes small random Llama and Mistral models with what PyTorch computes for them: log-probabilities, ORPO loss, every gradient.

    python generate.py        (made with torch 2.13 and transformers 5.23)

One folder per variant:
    config.json, model.safetensors   the model as a Hugging Face folder, F32; some configurations use the spelling of older files
    pairs.json                       three pairs of token ids with prompt lengths, and the loss with its settings
    golden.safetensors               F32 roundings of fp64 results:
        logps.<i>.chosen, logps.<i>.rejected   [tokens - 1], log-probability of tokens 1... of the whole sequence
        grad.<parameter name>                  gradient of the loss

How it is computed: eager attention; everything in fp64, also where the library's code casts to fp32 (norms, softmax, rotary angles), on
rotary frequencies and weights that are fp32 numbers. Each pair is one forward pass over its two whole sequences, padded on the right
(attention masks the padding), nothing shared. So for dynamic rotary scaling the length that counts is that of the pair's longer
sequence, its last token included; the frequencies are reset before every pair, since the library otherwise keeps those of the
longest sequence it has met. The library gives the row `pad_token_id` of the input embedding no gradient; variants with a
`pad_token_id` have that token inside their sequences.

Loss: mean over pairs of [mean of -logp over tokens 1... of chosen] - alpha * logsigmoid(z), with z from completion means.
"""
import contextlib
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

VOCABULARY, BOS, EOS, ALPHA = 61, 1, 2, 0.5
HERE = pathlib.Path(__file__).parent


def llama(**changes):
    values = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                  num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=BOS, eos_token_id=EOS)
    return LlamaConfig(**{**values, **changes})


def mistral(**changes):
    values = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=4, max_position_embeddings=64, rms_norm_eps=1e-5, sliding_window=None,
                  bos_token_id=BOS, eos_token_id=EOS)
    return MistralConfig(**{**values, **changes})


def rope(kind, theta=10000.0, **values):
    return {"rope_type": kind, "rope_theta": theta, **values}


def older(**changes):
    """A change of config.json to the spelling of files written before transformers 5; None removes a key."""
    return {"rope_parameters": None, "dtype": None, "torch_dtype": "float32", **changes}


# name: configuration, change of the written config.json
VARIANTS = {
    # Multi-head attention, tied; a file as old ones are: no rope, head_dim or key/value head count given.
    "mha-tied": (llama(hidden_size=24, intermediate_size=40, num_attention_heads=3, num_key_value_heads=3,
                       tie_word_embeddings=True, pad_token_id=EOS, rope_parameters=rope("default")),
                 older(num_key_value_heads=None, head_dim=None)),
    # Grouped queries, every bias, heads wider than hidden_size / heads, an epsilon that shows.
    "gqa-bias": (llama(num_attention_heads=4, num_key_value_heads=2, head_dim=6, attention_bias=True, mlp_bias=True,
                       rms_norm_eps=1e-2, pad_token_id=0, rope_parameters=rope("default", 500.0)), {}),
    "rope-linear": (llama(rope_parameters=rope("linear", 1000.0, factor=2.5)),
                    older(rope_theta=1000.0, rope_scaling={"type": "linear", "factor": 2.5})),
    # One pair within max_position_embeddings, two beyond.
    "rope-dynamic": (llama(max_position_embeddings=10, rope_parameters=rope("dynamic", 100.0, factor=3.0)), {}),
    "rope-llama3": (llama(max_position_embeddings=512, rope_parameters=rope("llama3", 10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                               original_max_position_embeddings=64)),
                    older(rope_theta=10000.0, rope_scaling={
                        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64})),
    "rope-yarn": (llama(head_dim=16, num_attention_heads=1, max_position_embeddings=256, rope_parameters=rope(
        "yarn", 100.0, factor=4.0, original_max_position_embeddings=64)), {}),
    "rope-yarn-mscale": (llama(head_dim=16, num_attention_heads=1, max_position_embeddings=256, rope_parameters=rope(
        "yarn", 50.0, factor=8.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=0.5, mscale=2.0,
        mscale_all_dim=0.5, truncate=False)),
        older(rope_theta=50.0, rope_scaling={
            "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0, "beta_slow": 0.5,
            "mscale": 2.0, "mscale_all_dim": 0.5, "truncate": False})),
    # A window shorter than the prefixes, so that it cuts inside P, C and R and between them.
    "mistral-window": (mistral(sliding_window=4, rope_parameters=rope("default", 1000.0)), {}),
    # No window; no size is a multiple of 8.
    "mistral-odd-sizes": (mistral(hidden_size=20, intermediate_size=36, num_attention_heads=2, num_key_value_heads=1, head_dim=10,
                                  num_hidden_layers=3, rope_parameters=rope("default", 10000.0)),
                          older(rope_theta=10000.0)),
}


def make_pairs(generator):
    """Prefixes: the prompt; the prompt and three tokens of the completions; one token."""
    def tokens(count):
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    def pair(prompt, shared, chosen, rejected):
        start = [BOS] + tokens(prompt - 1)
        if prompt > 3:
            start[2], start[3] = EOS, 0
        common = tokens(shared)
        # The branches begin with different tokens, so that the shared prefix is what the case says.
        chosen, rejected = [7] + tokens(chosen - 2) + [EOS], [11] + tokens(rejected - 2) + [EOS]
        return {"chosen": start + common + chosen, "rejected": start + common + rejected, "chosen_prompt_length": prompt,
                "rejected_prompt_length": prompt}

    return [pair(5, 0, 6, 4), pair(6, 3, 5, 9), pair(1, 0, 5, 7)]


@contextlib.contextmanager
def full_double():
    """Casts to fp32 inside the library become casts to fp64."""
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept


def log1mexp(x):
    return torch.where(x < -0.6931471805599453, torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


def forward_pair(model, pair):
    rotary = model.model.rotary_emb
    rotary.inv_freq, rotary.max_seq_len_cached = rotary.original_inv_freq.clone(), rotary.original_max_seq_len
    sequences = [pair["chosen"], pair["rejected"]]
    longest = max(map(len, sequences))
    ids = torch.tensor([s + [0] * (longest - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences])
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    every = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
    return [every[row, : len(s) - 1] for row, s in enumerate(sequences)]


def evaluate(model, pairs):
    """Token log-probabilities of every sequence and the loss."""
    logps, nll, odds = [], 0, 0
    for pair in pairs:
        chosen, rejected = forward_pair(model, pair)
        logps.append((chosen, rejected))
        nll = nll - chosen.mean() / len(pairs)
        a_w = chosen[max(pair["chosen_prompt_length"], 1) - 1:].mean()
        a_l = rejected[max(pair["rejected_prompt_length"], 1) - 1:].mean()
        z = (a_w - a_l) - (log1mexp(a_w) - log1mexp(a_l))
        odds = odds + torch.nn.functional.logsigmoid(z) / len(pairs)
    return logps, nll, odds, nll - ALPHA * odds


def make(name, config, changes, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    model = (LlamaForCausalLM if isinstance(config, LlamaConfig) else MistralForCausalLM)(config)
    with torch.no_grad():
        for parameter, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            values.copy_(1 + 0.2 * noise if "norm" in parameter else 0.4 * noise)
    pairs = make_pairs(generator)
    intended = evaluate(model, pairs)[3].item()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    written = json.loads((folder / "config.json").read_text())
    written.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in written.items() if k not in changes or v is not None},
                                                   indent=1) + "\n")

    # What is compared against is what the written folder means to the library.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    single = evaluate(model, pairs)[3].item()
    assert single == intended, f"{name}: the written config.json means something else"
    model.double()
    with full_double():
        logps, nll, odds, loss = evaluate(model, pairs)
        loss.backward()
    assert abs(single - loss.item()) < 2e-6 * loss.item(), (name, single, loss.item())

    golden = {f"grad.{parameter}": values.grad.to(torch.float32).contiguous() for parameter, values in model.named_parameters()}
    for index, sequences in enumerate(logps):
        for branch, values in zip(("chosen", "rejected"), sequences):
            golden[f"logps.{index}.{branch}"] = values.detach().to(torch.float32).contiguous()
    save_file(golden, folder / "golden.safetensors")
    lines = ",\n  ".join(json.dumps(pair) for pair in pairs)
    (folder / "pairs.json").write_text(
        f'{{"alpha": {ALPHA}, "temperature": 1.0, "loss": {loss.item()!r}, "nll_loss": {nll.item()!r}, '
        f'"log_odds_ratio": {odds.item()!r},\n "pairs": [\n  {lines}\n ]}}\n')
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, loss {loss.item():.9f}, fp32 {single:.9f}, "
          f"{sum(f.stat().st_size for f in folder.iterdir()) // 1024} KiB")


if __name__ == "__main__":
    for seed, (name, (config, changes)) in enumerate(VARIANTS.items()):
        make(name, config, changes, seed)
