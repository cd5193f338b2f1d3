"""GPT-2 models of transformers in folders.

hugging_face_gpt.py make FOLDER         writes two random ones: FOLDER/one in one file, FOLDER/shards in several, and
                                        FOLDER/results.safetensors, `tokens` [2, 9] and the logits of each by its name
hugging_face_gpt.py logits FILE NAME... adds to FILE, which holds `tokens`, the logits of the model in each folder NAME
                                        beside it, by that name, and prints a line of the keys that were missing, left
                                        over or different
"""
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, logging

logging.set_verbosity_error()


def logits(model, tokens):
    with torch.no_grad():
        return model.eval()(tokens).logits.clone()


def make(folder):
    torch.manual_seed(3)
    # Weights ten times as large as the first ones: else the activation hardly matters.
    config = GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=48, vocab_size=96, bos_token_id=0, eos_token_id=0,
                        initializer_range=0.2)
    results = {"tokens": torch.randint(0, 96, (2, 9))}
    for name, size in ("one", "1GB"), ("shards", "40KB"):
        model = GPT2LMHeadModel(config)
        for parameter in model.parameters():  # biases are zero at first
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(f"{folder}/{name}", max_shard_size=size)
        results[name] = logits(model, results["tokens"])
    save_file(results, f"{folder}/results.safetensors")


def add_logits(file, *names):
    results = load_file(file)
    for name in names:
        model, info = GPT2LMHeadModel.from_pretrained(os.path.join(os.path.dirname(file), name), output_loading_info=True)
        print(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), sorted(info["mismatched_keys"]))
        results[name] = logits(model, results["tokens"])
    save_file(results, file)


{"make": make, "logits": add_logits}[sys.argv[1]](*sys.argv[2:])
