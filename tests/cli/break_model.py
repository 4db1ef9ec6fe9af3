"""Makes a broken copy of a checkpoint: break_model.py SOURCE TARGET KIND

Each function below is a kind (with '-' for '_') and breaks exactly one thing. Without arguments
the kinds are listed, one a line: NAME<TAB>what the error line must name (a regular expression).
"""

import json
import pathlib
import shutil
import struct
import sys

KINDS = {}


def kind(pattern):
    def add(function):
        KINDS[function.__name__.replace("_", "-")] = (pattern, function)
        return function

    return add


def shards(model):
    return sorted(model.glob("*.safetensors"))


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_header(path, change):
    """Changes the header of a safetensors file and keeps its data."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def first_tensor(header, part):
    return next(n for n in sorted(header) if part in n)


@kind("config.json")
def empty_directory(model):
    shutil.rmtree(model)
    model.mkdir()


@kind("config.json")
def no_config(model):
    (model / "config.json").unlink()


@kind("config.json")
def config_not_json(model):
    (model / "config.json").write_text('{"model_type": "qwen3_next", ')


@kind("config.json.*model_type")
def other_architecture(model):
    edit_json(
        model / "config.json",
        lambda c: c.update(model_type="llama", architectures=["LlamaForCausalLM"]),
    )


@kind("config.json.*hidden_size")
def missing_key(model):
    edit_json(model / "config.json", lambda c: c.pop("hidden_size"))


@kind("config.json.*num_experts")
def huge_value(model):
    edit_json(model / "config.json", lambda c: c.update(num_experts=2**40))


@kind("config.json")
def text_for_number(model):
    edit_json(model / "config.json", lambda c: c.update(num_hidden_layers="four"))


@kind("model-00002-of-00002.safetensors")
def missing_shard(model):
    shards(model)[1].unlink()


@kind("model-00001-of-00002.safetensors")
def truncated_shard(model):
    data = shards(model)[0].read_bytes()
    shards(model)[0].write_bytes(data[: len(data) * 2 // 3])


@kind("model-00002-of-00002.safetensors")
def empty_shard(model):
    shards(model)[1].write_bytes(b"")


@kind("model-00001-of-00002.safetensors.*header")
def header_larger_than_file(model):
    data = shards(model)[0].read_bytes()
    shards(model)[0].write_bytes(struct.pack("<Q", len(data) * 2) + data[8:])


@kind("model-00001-of-00002.safetensors.*header")
def header_of_exabytes(model):
    data = shards(model)[0].read_bytes()
    shards(model)[0].write_bytes(struct.pack("<Q", 2**63 + 5) + data[8:])


@kind("model-00001-of-00002.safetensors")
def header_not_json(model):
    data = bytearray(shards(model)[0].read_bytes())
    data[8:12] = b"<xml"
    shards(model)[0].write_bytes(data)


@kind("model-00001-of-00002.safetensors.*tensor '")
def overlapping_offsets(model):
    def change(header):
        names = [n for n in header if n != "__metadata__"]
        names.sort(key=lambda n: header[n]["data_offsets"])
        begin, end = header[names[1]]["data_offsets"]
        first = header[names[0]]["data_offsets"]
        shift = begin - first[0]
        header[names[1]]["data_offsets"] = [begin - shift, end - shift]

    edit_header(shards(model)[0], change)


@kind("model-00001-of-00002.safetensors.*tensor '")
def offset_past_the_end(model):
    def change(header):
        name = max(
            (n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"]
        )
        begin, end = header[name]["data_offsets"]
        header[name]["data_offsets"] = [begin + 2**40, end + 2**40]

    edit_header(shards(model)[0], change)


@kind("input_layernorm.weight")
def wrong_shape(model):
    def change(header):
        tensor = header[first_tensor(header, "input_layernorm.weight")]
        tensor["shape"] = [2, tensor["shape"][0] // 2]

    edit_header(shards(model)[0], change)


@kind("input_layernorm.weight")
def wrong_dtype(model):
    def change(header):
        tensor = header[first_tensor(header, "input_layernorm.weight")]
        tensor["dtype"] = "I16"

    edit_header(shards(model)[0], change)


@kind("qweight")
def wrong_quantized_dtype(model):
    def change(header):
        header[first_tensor(header, ".qweight")]["dtype"] = "F32"

    edit_header(shards(model)[0], change)


@kind("input_layernorm.weight")
def missing_tensor(model):
    """Under another name, so that the file itself stays whole."""

    def rename(tensors):
        name = first_tensor(tensors, "input_layernorm.weight")
        tensors[name.replace("weight", "height")] = tensors.pop(name)

    edit_header(shards(model)[0], rename)
    edit_json(model / "model.safetensors.index.json", lambda i: rename(i["weight_map"]))


@kind("config.json.*(packing_format|kitten)")
def unknown_packing(model):
    edit_json(
        model / "config.json",
        lambda c: c["quantization_config"].update(packing_format="auto_round:kitten"),
    )
    (model / "quantization_config.json").unlink()


@kind("config.json.*(quant_method|kitten)")
def unknown_method(model):
    edit_json(
        model / "config.json", lambda c: c["quantization_config"].update(quant_method="kitten")
    )
    (model / "quantization_config.json").unlink()


@kind("model.safetensors.index.json")
def index_not_json(model):
    (model / "model.safetensors.index.json").write_text("[1, 2")


@kind("index.json|outside|\\.\\./")
def index_leaves_directory(model):
    def change(index):
        for name in index["weight_map"]:
            index["weight_map"][name] = "../../" + index["weight_map"][name]

    edit_json(model / "model.safetensors.index.json", change)


@kind("tokenizer.json")
def no_tokenizer(model):
    (model / "tokenizer.json").unlink()


@kind("tokenizer.json")
def tokenizer_cut(model):
    text = (model / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").write_bytes(text[: len(text) // 2])


@kind("tokenizer.json")
def tokenizer_of_another_kind(model):
    edit_json(model / "tokenizer.json", lambda t: t["model"].update(type="Unigram"))


@kind("tokenizer.json")
def tokenizer_bad_merge(model):
    edit_json(model / "tokenizer.json", lambda t: t["model"]["merges"].append(["zq§", "qz§"]))


@kind("generation_config.json")
def generation_not_json(model):
    (model / "generation_config.json").write_text("{")


def main():
    if len(sys.argv) == 1:
        for name, (pattern, _) in KINDS.items():
            print(f"{name}\t{pattern}")
        return
    source, target, name = sys.argv[1:]
    target = pathlib.Path(target)
    shutil.copytree(source, target)
    KINDS[name][1](target)


main()
