"""Writes trainer_state.json as transformers 5.23 does.

Run beside this file with transformers and torch installed: python trainer_state.py
"""

from transformers import TrainerState

TrainerState(
    epoch=1.25,
    global_step=20,
    max_steps=48,
    logging_steps=10,
    eval_steps=20,
    save_steps=20,
    train_batch_size=4,
    num_train_epochs=3,
    num_input_tokens_seen=123456,
    total_flos=1.5e15,
    log_history=[
        {"epoch": 0.625, "grad_norm": 3.25, "learning_rate": 8e-06, "loss": 2.5, "rewards/chosen": -0.125, "step": 10},
        {"epoch": 1.25, "grad_norm": 0.5, "learning_rate": 6.5e-06, "loss": 2.25, "rewards/chosen": -0.1, "step": 20},
        {"epoch": 1.25, "eval_loss": 2.375, "eval_rewards/accuracies": 0.75, "step": 20},
    ],
).save_to_json("trainer_state.json")
