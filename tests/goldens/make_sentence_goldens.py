"""Make the golden sentence encoders of test_sentence.py: random weights, kilobytes.

Run with torch and transformers at hand::

    python tests/goldens/make_sentence_goldens.py

Each folder under sentence/ is a checkpoint in the layout of Hugging Face, with
golden.npz (what the reference makes of texts) and golden.json (texts and token
ids) beside it. The reference is transformers' own PyTorch model and tokenizer; its
last hidden states are pooled here as sentence-transformers does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

ROOT = Path(__file__).resolve().parent / "sentence"

TEXTS = (
    "a photo of a cat",
    "A Photo Of A CAT",
    "crème brûlée",
    "a 😀 smiling 👩‍👩‍👧 family",
    "it's the dog's, isn't it?",
    "熊猫 и кошка",
    "  many   spaces\tand\nlines  ",
    "[PAD] and <pad> in a text",
    "",
    "word " * 60,
    "bank, sloping land beside a body of water",
)
WORDS = ("the", "photo", "of", "cat", "dog", "land", "water", "bank", "and", "text")
LAYERS = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
}


CHANGES = {
    "roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "distilbert": {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2},
    # The first and the last layer see everything, those between four tokens away.
    "modernbert": {"num_hidden_layers": 4, "local_attention": 8},
    "qwen3": {"head_dim": 12, "num_key_value_heads": 1, "tie_word_embeddings": True},
}


def random_state(model: torch.nn.Module, seed: int) -> None:
    """Fill a model with weights under which every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            weight.data = 1 + 0.2 * noise
        elif weight.ndim == 1:
            weight.data = 0.2 * noise
        elif "embeddings" in name or "relative" in name:
            weight.data = 0.7 * noise
        else:
            weight.data = noise / weight[0].numel() ** 0.5


def word_pieces(first: tuple[str, ...]) -> Tokenizer:
    """Letters and a few words, as BERT splits; ``first`` are the special tokens."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    names = [*first, *letters, *(f"##{c}" for c in letters if c.isalnum()), *WORDS]
    tokenizer = Tokenizer(
        models.WordPiece({n: i for i, n in enumerate(names)}, unk_token=first[2])
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return finish(tokenizer, first)


def byte_pieces(first: tuple[str, ...]) -> Tokenizer:
    """Bytes and no merges, as RoBERTa splits."""
    names = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({n: i for i, n in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return finish(tokenizer, first)


def finish(tokenizer: Tokenizer, first: tuple[str, ...]) -> Tokenizer:
    """Put the begin and end around each text, or an end that pads too."""
    tokenizer.add_special_tokens(list(first))
    around = first[-2:]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{around[0]} $A {around[1]}" if len(first) > 1 else f"$A {first[0]}",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in around],
    )
    return tokenizer


def make(
    name: str, kind: str, tokenizer: Tokenizer, pad: str, pooling: str, seed: int
) -> None:
    """Write one checkpoint and what the reference makes of the texts."""
    folder = ROOT / name
    # Those that are there stay as they are.
    if folder.exists():
        return
    (folder / "1_Pooling").mkdir(parents=True)
    pad_id = tokenizer.token_to_id(pad)
    config = {
        **LAYERS,
        "model_type": kind,
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": pad_id,
    }
    config |= CHANGES.get(kind, {})
    made = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModel.from_config(made).eval()
    random_state(model, seed)
    prefix = "roberta." if kind == "roberta" else ""
    save_file(
        {
            prefix + key: tensor.contiguous()
            for key, tensor in model.state_dict().items()
        },
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    write(folder / "config.json", config)
    mode = {
        "mean": "mean_tokens",
        "cls": "cls_token",
        "last": "lasttoken",
    }[pooling]
    write(folder / "1_Pooling" / "config.json", {f"pooling_mode_{mode}": True})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 40})
    tokenizer.save(str(folder / "tokenizer.json"))
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token=pad
    )
    ids = reference(list(TEXTS), truncation=True, max_length=40).input_ids
    rows = torch.full((len(ids), max(map(len, ids))), pad_id)
    mask = torch.zeros_like(rows)
    for row, keep, each in zip(rows, mask, ids, strict=True):
        row[: len(each)] = torch.tensor(each)
        keep[: len(each)] = 1
    with torch.no_grad():
        states = model(input_ids=rows, attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    pooled = (states * weights).sum(1) / weights.sum(1)
    pooled = states[:, 0] if pooling == "cls" else pooled
    if pooling == "last":
        pooled = states[torch.arange(len(ids)), mask.sum(1) - 1]
    unit = torch.nn.functional.normalize(pooled, dim=1)
    golden = {"embeddings": unit.numpy()}
    if kind == "mpnet":
        golden["buckets"] = mpnet_buckets(model, 300)
    np.savez_compressed(folder / "golden.npz", **golden)
    write(folder / "golden.json", {"texts": TEXTS, "ids": ids})


def mpnet_buckets(model: torch.nn.Module, length: int) -> np.ndarray:
    """The reference's own table of relative positions."""
    places = torch.arange(length)
    behind = places[None, :] - places[:, None]
    return model.encoder.relative_position_bucket(behind).numpy().astype(np.uint8)


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    bert = ("[PAD]", "[MASK]", "[UNK]", "[CLS]", "[SEP]")
    mpnet = ("<mask>", "<pad>", "[UNK]", "<s>", "</s>")
    roberta = ("<unk>", "<pad>", "<mask>", "<s>", "</s>")
    make("bert", "bert", word_pieces(bert), "[PAD]", "mean", 1)
    make("mpnet", "mpnet", word_pieces(mpnet), "<pad>", "mean", 2)
    make("roberta", "roberta", byte_pieces(roberta), "<pad>", "cls", 3)
    make("distilbert", "distilbert", word_pieces(bert), "[PAD]", "mean", 4)
    make("modernbert", "modernbert", byte_pieces(bert), "[PAD]", "mean", 5)
    end = ("<|endoftext|>",)
    make("qwen3", "qwen3", byte_pieces(end), end[0], "last", 6)
    for folder in sorted(ROOT.iterdir()):
        (folder / "model.safetensors").chmod(0o644)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        sys.stdout.write(f"{folder.name}: {size / 1024:.0f} KB\n")


if __name__ == "__main__":
    main()
