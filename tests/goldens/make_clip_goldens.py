"""Make the golden checkpoints of test_clip_parity.py: random weights, kilobytes.

Run with torch, transformers and sentencepiece at hand::

    python tests/goldens/make_clip_goldens.py

Each folder under clip/ is a checkpoint in the layout of Hugging Face, with
golden.npz (what the reference makes of images and texts) and golden.json (the
texts) beside it. The reference is transformers' own PyTorch model, its own image
processor and its own tokenizer, untouched.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers
from flax import serialization, traverse_util
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

ROOT = Path(__file__).resolve().parent / "clip"

# Case, accents (composed and not), emoji, other scripts, digits, quotes,
# contractions, odd spaces, special tokens as text, nothing, and far too much.
DIFFICULT = (
    "a photo of a cat",
    "A Photo Of A CAT",
    "crème brûlée",
    "cre\u0300me bru\u0302le\u0301e",
    "a 😀 smiling 👩‍👩‍👧 family 🇫🇷",
    "it's the dog's, isn't it? they'll we've I'd",
    "über-Straße naïve Ångström İstanbul ΣΊΣΥΦΟΣ",
    "熊猫 и кошка",
    "  many   spaces\tand\nlines  ",
    "3.14159 × 10² — 50% off!!! #1",
    "<|endoftext|> in a text <eos> <pad>",
    "hyphen-ated_under_score low▁line",
    "“curly” ‘quotes’ … ﬁne ﬃ",
    "\u200bzero\u200dwidth",
    "",
    " ",
    "word " * 120,
    "supercalifragilisticexpialidocious" * 6,
)

CORPUS = (
    "a photo of a cat",
    "a photo of a dog and a cat in the park",
    "the animal has a warm coat and a long tail",
    "a small bird with red and yellow feathers is singing on the branch",
    "an airplane, a ship, a truck and an automobile stand in a row",
    "a bad photo of the large horse",
    "art of the small frog, a deer in the forest",
    "many words are in this text it is the first of the year",
    "seven people were there when they came to the house by the sea",
    "photographs of flowers, fruit, bread and other food on a table",
)


def random_state(model: torch.nn.Module, seed: int) -> None:
    """Fill a model with weights under which every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.startswith("logit_"):
            weight.data = torch.full_like(weight, 2.0 if "scale" in name else -3.0)
        elif "norm" in name and name.endswith("weight"):
            weight.data = 1 + 0.2 * noise
        elif weight.ndim == 1:
            weight.data = 0.2 * noise
        elif "embedding" in name and weight.ndim == 2:
            weight.data = 0.7 * noise
        else:
            weight.data = noise / weight[0].numel() ** 0.5


def sample_images() -> list[np.ndarray]:
    """Three smooth pictures of different shapes."""
    rng = np.random.default_rng(5)
    images = []
    for height, width in ((40, 61), (75, 33), (24, 24)):
        rough = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        smooth = Image.fromarray(rough).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        images.append(np.asarray(smooth))
    return images


def learn_merges(words: list[list[str]], count: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges; ties go to the pair that sorts first.

    The trainer of the tokenizers library breaks ties by chance.
    """
    merges = []
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in itertools.pairwise(word))
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for word in words:
            place = 0
            while place < len(word) - 1:
                if word[place : place + 2] == [left, right]:
                    word[place : place + 2] = [left + right]
                place += 1
    return merges


def train_clip_tokenizer() -> transformers.CLIPTokenizer:
    """Train CLIP's kind of byte-pair encoding on a few sentences."""
    # The 256 bytes come first, then those that end a word, as in OpenAI's table.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *(f"{c}</w>" for c in alphabet)]
    splitter = transformers.CLIPTokenizer().backend_tokenizer.pre_tokenizer
    pieces = [piece for line in CORPUS for piece, _ in splitter.pre_tokenize_str(line)]
    merges = learn_merges([[*piece[:-1], f"{piece[-1]}</w>"] for piece in pieces], 140)
    names += [left + right for left, right in merges]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={name: place for place, name in enumerate(names)},
        merges=merges,
        model_max_length=24,
    )


def train_siglip_pieces(folder: Path) -> None:
    """Train sentence pieces and write them as spiece.model and tokenizer.json."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pieces_proto

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(line.replace(",", "") for line in CORPUS),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        model_type="unigram",
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        num_threads=1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    proto = pieces_proto.ModelProto.FromString((folder / "spiece.model").read_bytes())
    scores = [(piece.piece, piece.score) for piece in proto.pieces]
    library = Tokenizer(models.Unigram(scores, unk_id=2, byte_fallback=False))
    library.normalizer = normalizers.Sequence(
        [
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    library.decoder = decoders.Metaspace()
    library.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    library.add_special_tokens([AddedToken(t) for t in ("</s>", "<unk>")])
    library.save(str(folder / "tokenizer.json"))


def train_gemma_tokenizer() -> dict[str, object]:
    """Train Gemma's kind of byte-pair encoding; return vocabulary and merges."""
    words = [[*f"▁{word}"] for line in CORPUS for word in line.split()]
    letters = sorted({letter for word in words for letter in word})
    merges = learn_merges(words, 100)
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    names += [f"<0x{byte:02X}>" for byte in range(256)]
    names += [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    names += letters + [left + right for left, right in merges]
    vocabulary = {name: place for place, name in enumerate(names)}
    return {"vocab": vocabulary, "merges": merges}


def clip_config(tokenizer: transformers.CLIPTokenizer, **changes: object) -> dict:
    """A CLIP of two layers in each tower."""
    activation = changes.pop("hidden_act", "quick_gelu")
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 20,
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "vocab_size": len(tokenizer.get_vocab()),
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 24,
            "hidden_act": activation,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": changes.pop("eos_token_id", tokenizer.eos_token_id),
            "pad_token_id": tokenizer.pad_token_id,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 56,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": activation,
            **changes,
        },
    }


def siglip_config(model_type: str, vocab_size: int, **vision: object) -> dict:
    """A SigLIP of two layers in each tower."""
    return {
        "architectures": ["SiglipModel"],
        "model_type": model_type,
        "text_config": {
            "model_type": f"{model_type}_text_model",
            "vocab_size": vocab_size,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "max_position_embeddings": 64,
            "projection_size": 32,
            "bos_token_id": None,
            "eos_token_id": 1,
        },
        "vision_config": {
            "model_type": f"{model_type}_vision_model",
            "hidden_size": 32,
            "intermediate_size": 56,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 8,
            **vision,
        },
    }


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@torch.no_grad()
def write_golden(
    folder: Path,
    model: torch.nn.Module,
    image_inputs: dict[str, np.ndarray],
    ids: list[list[int]],
    pad_id: int,
    *,
    is_masked: bool = False,
) -> None:
    """Run the reference and write what it gives."""
    model.eval()
    width = max(map(len, ids))
    padded = np.full((len(ids), width), pad_id, np.int64)
    for row, each in zip(padded, ids, strict=True):
        row[: len(each)] = each
    inputs = {name: torch.from_numpy(a) for name, a in image_inputs.items()}
    if is_masked:
        inputs["attention_mask"] = torch.from_numpy(padded != pad_id)
    out = model(input_ids=torch.from_numpy(padded), **inputs)
    images = sample_images()
    np.savez_compressed(
        folder / "golden.npz",
        **{f"picture_{i}": image for i, image in enumerate(images)},
        image_embeddings=out.image_embeds.numpy(),
        text_embeddings=out.text_embeds.numpy(),
        logits=out.logits_per_image.numpy(),
    )
    write_json(folder / "golden.json", {"texts": list(DIFFICULT), "ids": ids})


def as_pil(images: list[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(image) for image in images]


def openai(folder: Path) -> None:
    """As openai/clip-vit-base-patch32.

    quick_gelu, the wrong end-of-text id, files in the old style, position_ids
    among the tensors.
    """
    tokenizer = train_clip_tokenizer()
    config = clip_config(tokenizer, eos_token_id=2)
    model = transformers.CLIPModel(transformers.CLIPConfig(**config))
    random_state(model, 1)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(24)[None]
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": 32,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": 32,
        },
    )
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(as_pil(sample_images()), return_tensors="np")
    ids = tokenizer(list(DIFFICULT), truncation=True, max_length=24).input_ids
    write_golden(folder, model, dict(pixels), ids, tokenizer.pad_token_id)


def laion(folder: Path) -> None:
    """As the LAION checkpoints: gelu, shards, another padding, two text tables."""
    tokenizer = train_clip_tokenizer()
    config = clip_config(tokenizer, hidden_act="gelu")
    # The second copy decides, as in the reference.
    config["text_config_dict"] = dict(config["text_config"])
    config["text_config"] = {**config["text_config"], "num_attention_heads": 4}
    model = transformers.CLIPModel(transformers.CLIPConfig(**config))
    random_state(model, 2)
    model.save_pretrained(folder, max_shard_size="60KB")
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": {"height": 32, "width": 32},
            "image_processor_type": "CLIPImageProcessor",
            "resample": 3,
            "size": {"shortest_edge": 32},
        },
    )
    tables = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    write_json(folder / "vocab.json", tables["vocab"])
    merges = "\n".join(" ".join(pair) for pair in tables["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    write_json(folder / "special_tokens_map.json", {"pad_token": "!"})
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(as_pil(sample_images()), return_tensors="np")
    ids = tokenizer(list(DIFFICULT), truncation=True, max_length=24).input_ids
    write_golden(folder, model, dict(pixels), ids, tables["vocab"]["!"])


def rectangular(folder: Path) -> None:
    """Images of 32 by 72 pixels; weights as Flax wrote them.

    The reference knows only squares. A tower sees nothing but a list of patches,
    so the 4 by 9 patches go through the reference as 6 by 6.
    """
    tokenizer = train_clip_tokenizer()
    config = clip_config(tokenizer, image_size=48)
    model = transformers.CLIPModel(transformers.CLIPConfig(**config))
    random_state(model, 3)
    config["vision_config"]["image_size"] = [32, 72]
    write_json(folder / "config.json", config)
    size = {"height": 32, "width": 72}
    write_json(
        folder / "preprocessor_config.json",
        {"resample": 2, "size": size, "do_center_crop": False},
    )
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    write_flax(folder / "flax_model.msgpack", model)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(as_pil(sample_images()), return_tensors="np")["pixel_values"]
    patches = pixels.reshape(-1, 3, 4, 8, 9, 8).transpose(0, 2, 4, 1, 3, 5)
    square = patches.reshape(-1, 6, 6, 3, 8, 8).transpose(0, 3, 1, 4, 2, 5)
    square = np.ascontiguousarray(square.reshape(-1, 3, 48, 48))
    ids = tokenizer(list(DIFFICULT), truncation=True, max_length=24).input_ids
    write_golden(folder, model, {"pixel_values": square}, ids, tokenizer.pad_token_id)


def metaclip2(folder: Path) -> None:
    """As facebook/metaclip-2-worldwide-huge-quickgelu.

    Texts end with token 2, which is what OpenAI's configs only say.
    """
    names = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
    ]
    library = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.add_special_tokens(names[:4])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    library.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", special)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), **special
    )
    config = clip_config(tokenizer)
    config |= {"architectures": ["MetaClip2Model"], "model_type": "metaclip_2"}
    model = transformers.MetaClip2Model(transformers.MetaClip2Config(**config))
    random_state(model, 7)
    model.save_pretrained(folder)
    write_json(folder / "config.json", config)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    write_json(folder / "preprocessor_config.json", size)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(as_pil(sample_images()), return_tensors="np")
    ids = tokenizer(list(DIFFICULT), truncation=True, max_length=24).input_ids
    write_golden(folder, model, dict(pixels), ids, tokenizer.pad_token_id)


def chinese(folder: Path) -> None:
    """As OFA-Sys/chinese-clip-vit-base-patch16: BERT's texts, split by vocab.txt."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *"熊猫和狗的照片"]
    names += [*(f"##{c}" for c in letters if c.isalnum()), "photo", "cat", "##s"]
    names = list(dict.fromkeys(names))
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    text = {
        "vocab_size": len(names),
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
    }
    config = {
        **clip_config(train_clip_tokenizer()),
        "architectures": ["ChineseCLIPModel"],
        "model_type": "chinese_clip",
        "text_config": text,
    }
    model = transformers.ChineseCLIPModel(transformers.ChineseCLIPConfig(**config))
    random_state(model, 8)
    model.save_pretrained(folder)
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_center_crop": False,
            "image_processor_type": "ChineseCLIPImageProcessor",
            "resample": 3,
            "size": {"height": 32, "width": 32},
        },
    )
    processor = transformers.ChineseCLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(as_pil(sample_images()), return_tensors="np")
    ids = tokenizer(list(DIFFICULT), truncation=True, max_length=40).input_ids
    write_golden(folder, model, dict(pixels), ids, 0, is_masked=True)


def write_flax(path: Path, model: torch.nn.Module) -> None:
    """Write weights under the names and in the layout of FlaxCLIPModel."""
    flat = {}
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        stem, _, kind = name.rpartition(".")
        if kind == "weight" and "norm" in stem:
            name = f"{stem}.scale"
        elif kind == "weight" and stem.endswith(("token_embedding", "n_embedding")):
            name = f"{stem}.embedding"
        elif kind == "weight":
            name = f"{stem}.kernel"
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        flat[tuple(name.split("."))] = np.array(array, order="C")
    tree = traverse_util.unflatten_dict(flat)
    path.write_bytes(serialization.msgpack_serialize(tree))


def siglip(folder: Path) -> None:
    """As google/siglip-base-patch16-224."""
    train_siglip_pieces(folder)
    tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"))
    config = siglip_config("siglip", tokenizer.vocab_size, image_size=32)
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 32, "width": 32},
        },
    )
    finish_siglip(folder, config, tokenizer, transformers.SiglipImageProcessorPil, 4)


def siglip2(folder: Path) -> None:
    """As google/siglip2-base-patch16-224; patches don't fill the image."""
    tables = train_gemma_tokenizer()
    config = siglip_config("siglip", len(tables["vocab"]), image_size=36)
    write_gemma_files(folder, tables)
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "do_convert_rgb": None,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 2,
            "size": {"height": 36, "width": 36},
        },
    )
    reference = reference_gemma(tables)
    finish_siglip(folder, config, reference, transformers.SiglipImageProcessorPil, 5)


def siglip2_naflex(folder: Path) -> None:
    """As google/siglip2-base-patch16-naflex, with at most 20 patches."""
    tables = train_gemma_tokenizer()
    config = siglip_config("siglip2", len(tables["vocab"]), num_patches=16)
    config["architectures"] = ["Siglip2Model"]
    write_gemma_files(folder, tables)
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Siglip2ImageProcessor",
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "max_num_patches": 20,
            "patch_size": 8,
            "resample": 2,
        },
    )
    reference = reference_gemma(tables)
    finish_siglip(folder, config, reference, transformers.Siglip2ImageProcessorPil, 6)


def write_gemma_files(folder: Path, tables: dict[str, object]) -> None:
    """Write a tokenizer as the hub has it: without the lower-casing of training."""
    gemma = transformers.GemmaTokenizer(
        **tables, add_bos_token=False, add_eos_token=True
    )
    gemma.backend_tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_eos_token": True,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "padding_side": "right",
            "tokenizer_class": "GemmaTokenizer",
            "unk_token": "<unk>",
        },
    )


def reference_gemma(tables: dict[str, object]) -> transformers.Siglip2Tokenizer:
    """The tokenizer of transformers that does as SigLIP 2's training did."""
    return transformers.Siglip2Tokenizer(
        **tables, add_bos_token=False, add_eos_token=True, padding_side="right"
    )


def finish_siglip(folder, config, tokenizer, processor_class, seed: int) -> None:
    """Write the weights of a SigLIP and what the reference gives."""
    if config["model_type"] == "siglip2":
        model = transformers.Siglip2Model(transformers.Siglip2Config(**config))
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(**config))
    random_state(model, seed)
    write_json(folder / "config.json", config)
    # What the reference itself writes, but for its name for the format.
    model.save_pretrained(folder / "saved")
    tensors = load_file(folder / "saved" / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(folder / "saved")
    processor = processor_class.from_pretrained(folder)
    pixels = dict(processor(as_pil(sample_images()), return_tensors="np"))
    rows = tokenizer(
        list(DIFFICULT), padding="max_length", truncation=True, max_length=64
    )
    write_golden(folder, model, pixels, rows.input_ids, tokenizer.pad_token_id)


MAKERS = (
    *(openai, laion, rectangular, metaclip2, chinese),
    *(siglip, siglip2, siglip2_naflex),
)


def main() -> None:
    for make in MAKERS:
        folder = ROOT / make.__name__
        # Those that are there stay as they are.
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        make(folder)
        for file in folder.iterdir():
            file.chmod(0o644)
        size = sum(file.stat().st_size for file in folder.iterdir())
        sys.stdout.write(f"{make.__name__}: {size / 1024:.0f} KB\n")


if __name__ == "__main__":
    main()
