"""Trains the small tokenizer that every fixture shares.

Same machine as Qwen's (NFC, the same pre-tokenizer expression, byte-level BPE, the same 26 added
tokens with the same flags and order), only with 1024 entries instead of 151,669: 256 bytes, 742
merges and the added tokens at the end. Trained on corpus.py, so that its merges cover many scripts
and also pairs of bytes inside one character.
"""
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

import corpus

VOCAB = 1024
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]
ORDINARY = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
]
ADDED = SPECIAL + ORDINARY
FIRST_ADDED = VOCAB - len(ADDED)


def train():
    """The trained tokenizers.Tokenizer."""
    tok = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tok.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False)
    tok.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=FIRST_ADDED, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(corpus.training_texts(), trainer)
    if tok.get_vocab_size() != FIRST_ADDED:
        raise SystemExit(f"small_tokenizer: {tok.get_vocab_size()} entries, wanted {FIRST_ADDED}; "
                         "the corpus is too small")
    for text in ADDED:
        tok.add_tokens([AddedToken(text, normalized=False, special=text in SPECIAL)])
    return tok


def tokenizer_config(template):
    """tokenizer_config.json as the real repositories have it."""
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(FIRST_ADDED + i): {
                "content": text, "lstrip": False, "normalized": False, "rstrip": False,
                "single_word": False, "special": text in SPECIAL}
            for i, text in enumerate(ADDED)},
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 262144,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def write(directory, tok, template, separate):
    """Writes tokenizer.json and the chat template: in its own file when `separate`, else inside
    tokenizer_config.json, for real repositories do either."""
    directory = Path(directory)
    text = tok.to_str(pretty=False)
    (directory / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    config = tokenizer_config(template)
    if separate:
        del config["chat_template"]
        (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
