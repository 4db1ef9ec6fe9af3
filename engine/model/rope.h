/* rope.h - frequencies of rotary position embedding, with YaRN where the model asks for it. */
#ifndef LADE_MODEL_ROPE_H
#define LADE_MODEL_ROPE_H

#include "engine/checkpoint/shape.h"

/* freq[j] = theta^(-2j / rotary_dim), j < rotary_dim / 2. With a YaRN factor > 1 low frequencies
 * are divided by it, high ones kept, and those between blended (Peng et al. 2023, "YaRN"); *scale,
 * else 1, is then the attention factor and multiplies cos and sin. */
void lade_rope_frequencies(const struct lade_shape *shape, float *freq, float *scale);

#endif
