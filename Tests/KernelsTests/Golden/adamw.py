"""Writes adamw.txt: five steps of torch.optim.AdamW in fp32 on the CPU.

Run: python3 adamw.py (torch 2.13). Each line is a name followed by numbers; a case begins with its hyperparameters.
"""

import pathlib

import torch

CASES = [
    # learning rate, beta1, beta2, epsilon, weight decay
    (1e-3, 0.9, 0.999, 1e-8, 0.0),
    (1e-2, 0.8, 0.95, 1e-6, 0.1),
    (5e-1, 0.9, 0.999, 1e-8, 0.5),
]
COUNT = 37
STEPS = 5


def line(name, values):
    return " ".join([name] + [repr(float(value)) for value in values])


def main():
    torch.manual_seed(7)
    lines = []
    for case in CASES:
        learning_rate, beta1, beta2, epsilon, decay = case
        parameters = torch.nn.Parameter(torch.randn(COUNT))
        optimizer = torch.optim.AdamW(
            [parameters], lr=learning_rate, betas=(beta1, beta2), eps=epsilon, weight_decay=decay, foreach=False
        )
        lines += [line("case", case), line("start", parameters.detach())]
        for _ in range(STEPS):
            # Gradients over many magnitudes, zero included.
            gradient = torch.randn(COUNT) * 10 ** torch.randint(-9, 3, (COUNT,)).float()
            gradient[3] = 0
            parameters.grad = gradient
            optimizer.step()
            lines += [line("gradients", gradient), line("parameters", parameters.detach())]
        state = optimizer.state[parameters]
        lines += [line("firstMoments", state["exp_avg"]), line("secondMoments", state["exp_avg_sq"])]
    pathlib.Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
