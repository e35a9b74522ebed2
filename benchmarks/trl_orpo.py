"""Trains a few optimizer steps with TRL's ORPOTrainer on the CPU and prints one JSON object.

    python benchmarks/trl_orpo.py --model FOLDER --data PAIRS.jsonl --batch 1 --accumulation 16 --steps 3
    torchrun --nproc_per_node 2 benchmarks/trl_orpo.py ...          data parallel over processes (gloo)

Threads come from OMP_NUM_THREADS. The object has `step_seconds` of every step, `losses`, the pairs of a step and the
largest process's peak memory. A step is timed from its first forward pass to the end of the optimizer's update, reading
and tokenizing the data not included. benchmarks/vs-trl.sh calls this.
"""
import argparse
import json
import os
import resource
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.orpo import ORPOConfig, ORPOTrainer


class StepClock(TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.began = time.monotonic()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.monotonic() - self.began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch", type=int, default=1, help="per_device_train_batch_size")
    parser.add_argument("--accumulation", type=int, default=16, help="gradient_accumulation_steps")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--bf16", action="store_true", help="autocast to bf16; parameters stay in fp32")
    parser.add_argument("--learning-rate", type=float, default=8e-6)
    options = parser.parse_args()

    clock = StepClock()
    with tempfile.TemporaryDirectory() as scratch:
        configuration = ORPOConfig(
            output_dir=scratch, per_device_train_batch_size=options.batch,
            gradient_accumulation_steps=options.accumulation, max_steps=options.steps, max_length=options.max_length,
            learning_rate=options.learning_rate, lr_scheduler_type="constant", max_grad_norm=1.0,
            train_sampling_strategy="sequential", logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
            use_cpu=True, bf16=options.bf16,
            # TRL recomputes activations unless told otherwise: less memory, a third more work. Off is its faster setting.
            gradient_checkpointing=False)
        trainer = ORPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32), args=configuration,
            train_dataset=load_dataset("json", data_files=options.data, split="train"),
            processing_class=AutoTokenizer.from_pretrained(options.model), callbacks=[clock])
        trainer.train()

    world = trainer.accelerator.num_processes
    peak = torch.tensor([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9])
    peak = trainer.accelerator.gather(peak).max().item()
    if trainer.accelerator.is_main_process:
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        print(json.dumps({
            "processes": world, "bf16": options.bf16, "threads": torch.get_num_threads(), "step_seconds": clock.seconds, "losses": losses,
            "pairs_per_step": options.batch * options.accumulation * world, "peak_memory_gb": peak}), flush=True)


if __name__ == "__main__":
    main()
