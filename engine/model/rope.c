#include "engine/model/rope.h"

#include <math.h>

/* The (fractional) dimension whose wavelength turns `rotations` times in the original context. */
static double turning_dim(const struct lade_shape *s, double rotations)
{
    double context = s->yarn_original_context;
    return s->rotary_dim * log(context / (rotations * 2 * M_PI)) / (2 * log(s->rope_theta));
}

void lade_rope_frequencies(const struct lade_shape *s, float *freq, float *scale)
{
    int half = s->rotary_dim / 2;
    *scale = 1.0f;
    for (int j = 0; j < half; j++)
        freq[j] = (float)pow(s->rope_theta, -2.0 * j / s->rotary_dim);
    if (s->yarn_factor <= 1.0)
        return;
    double low = fmax(floor(turning_dim(s, s->yarn_beta_fast)), 0.0);
    double high = fmin(ceil(turning_dim(s, s->yarn_beta_slow)), s->rotary_dim - 1.0);
    if (high <= low)
        high = low + 0.001;
    for (int j = 0; j < half; j++) {
        double ramp = fmin(fmax((j - low) / (high - low), 0.0), 1.0);
        double exact = pow(s->rope_theta, -2.0 * j / s->rotary_dim);
        freq[j] = (float)(exact / s->yarn_factor * ramp + exact * (1.0 - ramp));
    }
    *scale = (float)s->yarn_attention_factor;
}
