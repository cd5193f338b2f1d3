"""Trained models of PyPI's packages, with what they make of some inputs: trained_models.py FOLDER

printed_text.pt, of legere, reads lines of text: `images` [2, 1, 32, 80], `logits` in printed_text.safetensors.
sentences.safetensors, of wordllama, encodes sentences: `ids` [3, T], -1 behind the end, `vectors` in encoded.safetensors.
"""
import importlib.util
import pathlib
import shutil
import sys
import types

import torch
from safetensors.torch import save_file

folder = pathlib.Path(sys.argv[1])


def folder_of(package):
    return pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0])


def read_text():
    # Its own __init__ imports OpenCV, which the model does without.
    package = types.ModuleType("legere")
    package.__path__ = [str(folder_of("legere"))]
    sys.modules["legere"] = package
    from legere.model import CompactCRNN

    file = pathlib.Path(package.__path__[0]) / "data/model.pt"
    model = CompactCRNN()
    model.load_state_dict(torch.load(file, weights_only=True)["model"])
    images = torch.rand(2, 1, 32, 80) * 2 - 1
    with torch.no_grad():
        logits = model.eval()(images)
    shutil.copy(file, folder / "printed_text.pt")
    save_file({"images": images, "logits": logits}, folder / "printed_text.safetensors")


def encode_sentences():
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    root = folder_of("wordllama")
    file = root / "weights/l2_supercat_256.safetensors"
    tokenizer = Tokenizer.from_file(str(root / "tokenizers/l2_supercat_tokenizer_config.json"))
    encoder = WordLlamaInference(load_file(file)["embedding.weight"], tokenizer)
    sentences = ["The licensee may copy it.", "A cat sits on the mat, and another one does not.", "Hello"]
    vectors = torch.from_numpy(encoder.embed(sentences, norm=True))
    ids = [[id if used else -1 for id, used in zip(one.ids, one.attention_mask)]
           for one in encoder.tokenize(sentences)]
    shutil.copy(file, folder / "sentences.safetensors")
    save_file({"ids": torch.tensor(ids), "vectors": vectors}, folder / "encoded.safetensors")


torch.manual_seed(5)
read_text()
encode_sentences()
