"""Writes odds.json: TRL's own odds-ratio loss on single pairs, in fp64 and in fp32, with the derivatives autograd gives.

    python generate.py        (made with torch 2.13 and trl 1.16)

Every case is one pair of mean log-probabilities. TRL casts to fp32 inside; for the fp64 values that cast is made a cast to fp64.
"""
import json
import pathlib
import random
from types import SimpleNamespace

import torch
from trl.experimental.orpo import ORPOTrainer


def evaluate(chosen, rejected, beta, dtype):
    a_w = torch.tensor([chosen], dtype=dtype, requires_grad=True)
    a_l = torch.tensor([rejected], dtype=dtype, requires_grad=True)
    trainer = SimpleNamespace(beta=beta, accelerator=SimpleNamespace(device="cpu"))
    cast = torch.Tensor.float
    torch.Tensor.float = lambda tensor: tensor.to(dtype)
    try:
        losses, chosen_rewards, rejected_rewards, ratio, log_odds = ORPOTrainer.odds_ratio_loss(trainer, a_w, a_l)
    finally:
        torch.Tensor.float = cast
    loss = -losses.mean()
    loss.backward()
    values = {"loss": loss, "log_odds_ratio": ratio, "log_odds_chosen": log_odds, "reward_chosen": chosen_rewards[0],
              "reward_rejected": rejected_rewards[0], "d_chosen": a_w.grad[0], "d_rejected": a_l.grad[0]}
    return {name: value.item() for name, value in values.items()}


def main():
    draw = random.Random(20240312)
    pairs = [(-0.6931471805599453, -0.6931471805599453), (-1e-3, -5.0), (-5.0, -1e-3), (-0.69, -0.70), (-40.0, -0.2), (-2.5, -2.5)]
    pairs += [(-draw.uniform(0.01, 6.0), -draw.uniform(0.01, 6.0)) for _ in range(34)]
    cases = []
    for index, (chosen, rejected) in enumerate(pairs):
        beta = [0.1, 1.0, 0.25, 0.0][index % 4]
        cases.append({"chosen": chosen, "rejected": rejected, "beta": beta,
                      "fp64": evaluate(chosen, rejected, beta, torch.float64),
                      "fp32": evaluate(chosen, rejected, beta, torch.float32)})
    path = pathlib.Path(__file__).with_name("odds.json")
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
