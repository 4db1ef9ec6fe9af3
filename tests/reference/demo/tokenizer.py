"""Train the byte-level BPE of the bundled model and write its tokenizer files.

Same normaliser, pre-tokenizer and 26 added tokens (in the same order) as the real model's
tokenizer; only the merges are learned here, from the generated conversations.

    python tokenizer.py OUT_DIR
"""

from __future__ import annotations

import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import dialogue

VOCAB = 2048
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]

# The Thinking form: history without earlier reasoning, and a generation prompt that opens <think>.
CHAT_TEMPLATE = pathlib.Path(__file__).resolve().parent.parent / "templates" / "thinking.jinja"


def train(count: int = 24000, seed: int = 11) -> Tokenizer:
    rng = random.Random(seed)

    def lines():
        for _ in range(count):
            system, turns, _ = dialogue.conversation(rng)
            yield system
            for turn in turns:
                yield "user\n"  # the roles of the chat format
                yield "assistant\n"
                yield turn.user
                yield turn.think + "\n"
                yield turn.answer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    ordinary = VOCAB - len(SPECIAL) - len(PLAIN)
    tokenizer.train_from_iterator(lines(), trainers.BpeTrainer(
        vocab_size=ordinary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    if tokenizer.get_vocab_size() != ordinary:
        raise SystemExit(f"the corpus gave {tokenizer.get_vocab_size()} tokens, expected {ordinary}")
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    return tokenizer


def write(tokenizer: Tokenizer, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    first = VOCAB - len(SPECIAL) - len(PLAIN)
    added = {str(first + i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                              "special": t in SPECIAL} for i, t in enumerate(SPECIAL + PLAIN)}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
              "additional_special_tokens": SPECIAL[1:], "bos_token": None, "chat_template": CHAT_TEMPLATE.read_text(encoding="utf-8"),
              "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
              "model_max_length": 8192, "pad_token": "<|endoftext|>", "split_special_tokens": False,
              "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(train(), pathlib.Path(sys.argv[1]))
