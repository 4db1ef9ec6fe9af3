"""The table of tiny checkpoints: one row per directory of tests/fixtures.

Every size is small, but the structure is the 80B model's: delta-net and attention layers 3:1,
routed experts with a shared one, partial rotary, untied head. The rows differ where a reader can
go wrong: shard count, expert layout, odd sizes, where the rope values stand, packing.
"""
from dataclasses import dataclass, field

BASE = dict(
    vocab_size=1024, hidden_size=64, intermediate_size=160, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=32, partial_rotary_factor=0.25,
    rope_theta=1e7, max_position_embeddings=4096, rms_norm_eps=1e-6,
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16,
    linear_value_head_dim=16, linear_conv_kernel_dim=4,
    num_experts=8, num_experts_per_tok=2, moe_intermediate_size=24,
    shared_expert_intermediate_size=48, full_attention_interval=4,
)


@dataclass(frozen=True)
class Quant:
    """How auto-round is asked to quantize. `layers` maps a module name or part of one (auto-round
    makes a regular expression of it) to the overriding keys."""
    bits: int = 4
    group_size: int = 128
    layers: dict = field(default_factory=dict)
    broaden: dict = field(default_factory=dict)  # expressions to replace in the exported
    # extra_config by wider ones, after which names that say the same are dropped


@dataclass(frozen=True)
class Spec:
    seed: int
    shape: dict                       # overrides of BASE
    family: str = "instruct"          # chat template
    shards: int = 1                   # at least this many files
    template_file: bool = False       # chat_template.jinja instead of inside tokenizer_config.json
    merges_as_text: bool = False      # "a b" instead of ["a", "b"], as older files have it
    layer_types: bool = True          # explicit list in config.json
    rope: str = "old"                 # "old": rope_theta at the top; "new": rope_parameters
    fused_experts: bool = False       # 3-D gate_up_proj and down_proj
    mtp: bool = False                 # mtp.* tensors, to be ignored
    float32_small: bool = False       # A_log, dt_bias and norms as F32
    quant: Quant | None = None


SPECS = {
    "tiny-bf16": Spec(seed=1, shape={}),
    "tiny8-bf16": Spec(
        seed=2, shards=3, rope="new", template_file=True,
        shape=dict(num_hidden_layers=8, hidden_size=24, num_experts=64, num_experts_per_tok=4,
                   moe_intermediate_size=6, shared_expert_intermediate_size=16, head_dim=16,
                   rope_theta=5e6, linear_key_head_dim=8, linear_value_head_dim=8)),
    "odd-bf16": Spec(
        seed=3, layer_types=False, merges_as_text=True, float32_small=True,
        shape=dict(vocab_size=1031, hidden_size=40, num_hidden_layers=5, num_attention_heads=6,
                   num_key_value_heads=3, head_dim=20, partial_rotary_factor=0.3,
                   linear_num_key_heads=3, linear_num_value_heads=6, linear_key_head_dim=12,
                   linear_value_head_dim=10, num_experts=5, num_experts_per_tok=3,
                   moe_intermediate_size=40, shared_expert_intermediate_size=36)),
    "tiny-thinking": Spec(
        seed=4, family="thinking", template_file=True, fused_experts=True, mtp=True,
        shape=dict(hidden_size=48, num_experts=6, num_experts_per_tok=3,
                   moe_intermediate_size=16, shared_expert_intermediate_size=24)),
    "wide-bf16": Spec(  # the 80B model's head sizes, one attention layer in three, YaRN
        seed=7, shape=dict(
            hidden_size=24, num_hidden_layers=3, full_attention_interval=3,
            num_attention_heads=2, num_key_value_heads=1, head_dim=256, linear_num_key_heads=1,
            linear_num_value_heads=2, linear_key_head_dim=128, linear_value_head_dim=128,
            num_experts=4, moe_intermediate_size=32, max_position_embeddings=2048,
            rope_scaling=dict(rope_type="yarn", factor=4.0,
                              original_max_position_embeddings=512))),
    "tiny-int4": Spec(
        seed=5, shards=2,
        shape=dict(hidden_size=128, num_experts=4, moe_intermediate_size=128,
                   shared_expert_intermediate_size=128, linear_num_value_heads=8,
                   linear_num_key_heads=4),
        quant=Quant(layers={
            "self_attn.k_proj": {"bits": 8},
            "self_attn.q_proj": {"bits": 8},
            "model.layers.1.linear_attn.out_proj": {"bits": 8},
            "mlp.gate$": {"bits": 16},
            "shared_expert_gate": {"bits": 16}})),
    "tiny8-int4-mixed": Spec(
        seed=6, shards=3, template_file=True, layer_types=False,
        shape=dict(num_hidden_layers=8, num_experts=8, num_experts_per_tok=3,
                   moe_intermediate_size=32, shared_expert_intermediate_size=64,
                   linear_num_key_heads=8, linear_num_value_heads=16, linear_key_head_dim=8,
                   linear_value_head_dim=8),
        quant=Quant(group_size=32, layers={
            "mlp.shared_expert.": {"bits": 8},
            "self_attn.[qko]_proj": {"bits": 8},
            "model.layers.3.self_attn.v_proj": {"bits": 8},
            "model.layers.7.self_attn.v_proj": {"bits": 16},
            "linear_attn": {"bits": 8},
            "mlp.gate$": {"bits": 16},
            "shared_expert_gate": {"bits": 16}},
            # Now the rule covers layer 7's v_proj too, and only its exact name keeps it 16-bit.
            broaden={".*self_attn\\.[qko]_proj.*": ".*self_attn.*"})),
}
