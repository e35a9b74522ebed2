"""Writes schedules.json: learning rates of transformers' schedules, step by step.

Run beside this file with transformers 5.23 and torch installed: python schedules.py
"""

import json

import torch
from transformers import get_scheduler

CASES = [
    # schedule, learning rate, warm-up steps, total steps, its own settings
    ("linear", 5e-5, 0, 40, {}),
    ("linear", 8e-6, 7, 40, {}),
    ("linear", 1e-5, 40, 40, {}),
    ("cosine", 8e-6, 0, 40, {}),
    ("cosine", 8e-6, 4, 40, {}),
    ("cosine", 1e-5, 1, 2, {}),
    ("constant", 1e-5, 0, 5, {}),
    ("constant", 1e-5, 3, 5, {}),
    ("constant_with_warmup", 1e-5, 0, 5, {}),
    ("constant_with_warmup", 1e-5, 3, 8, {}),
    ("inverse_sqrt", 5e-6, 0, 40, {}),
    ("inverse_sqrt", 5e-6, 10, 40, {}),
    ("inverse_sqrt", 5e-6, 10, 40, {"timescale": 25}),
    ("cosine_with_min_lr", 8e-6, 4, 40, {"min_lr_rate": 0.1}),
    ("cosine_with_min_lr", 8e-6, 0, 40, {"min_lr": 2e-6}),
    ("cosine_with_min_lr", 8e-6, 2, 40, {"min_lr": 0}),
]


def rates(name, rate, warmup, total, settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=settings)
    result = []
    for _ in range(total + 1):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


cases = [
    {"schedule": c[0], "learning_rate": c[1], "warmup_steps": c[2], "total_steps": c[3], "settings": c[4], "rates": rates(*c)}
    for c in CASES
]
with open("schedules.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
