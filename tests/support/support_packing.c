#include "tests/support/support_packing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support_packed.h"

/* A module that is being quantized. */
struct module {
    struct support_checkpoint *c;
    const char *name;
    int rows, cols, groups;
};

/* One of its tensors, with values that its suffix determines. */
static struct support_tensor *add(const struct module *m, const char *suffix, const char *dtype,
                                  int rows, int cols)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", m->name, suffix);
    struct support_tensor *t =
        support_add(m->c, name, dtype, cols ? 2 : 1, (uint64_t[]){(uint64_t)rows, (uint64_t)cols});
    support_refill(t, suffix);
    return t;
}

/* A stream of equal codes. */
static void repeat(struct support_tensor *t, int bits, unsigned code)
{
    memset(t->data, 0, t->bytes);
    for (size_t i = 0; i < t->bytes * 8; i++)
        t->data[i / 8] |= (unsigned char)((code >> i % (size_t)bits & 1) << i % 8);
}

static void add_order(const struct module *m, const char *suffix)
{
    struct support_tensor *t = add(m, suffix, "I32", m->cols, 0);
    support_refill(t, "order");
    for (size_t k = 0; k < (size_t)m->cols; k++) {
        uint32_t group = support_u32(t->data, k) % (uint32_t)m->groups;
        memcpy(t->data + 4 * k, &group, 4);
    }
}

static void gptq(const struct module *m, const struct support_packing *p)
{
    add(m, "qweight", "I32", m->cols * p->bits / 32, m->rows);
    add(m, "scales", p->scales, m->groups, m->rows);
    struct support_tensor *zeros = add(m, "qzeros", "I32", m->groups, m->rows * p->bits / 32);
    for (size_t i = 0; p->bits == 8 && i < zeros->bytes; i++)
        zeros->data[i] &= 0x7F; /* 255 + 1 does not fit 8 bits */
    if (p->sym)
        repeat(zeros, p->bits, (1u << (p->bits - 1)) - (unsigned)p->zero_offset);
    if (p->order)
        add_order(m, "g_idx");
}

static void awq(const struct module *m, const struct support_packing *p)
{
    add(m, "qweight", "I32", m->cols, m->rows / 8);
    add(m, "scales", p->scales, m->groups, m->rows);
    struct support_tensor *zeros = add(m, "qzeros", "I32", m->groups, m->rows / 8);
    if (p->sym)
        repeat(zeros, 4, 8);
}

static void compressed(const struct module *m, const struct support_packing *p)
{
    const int64_t shape[] = {m->rows, m->cols};
    add(m, "weight_packed", "I32", m->rows, (m->cols * p->bits + 31) / 32);
    add(m, "weight_scale", p->scales, m->rows, m->groups);
    if (!p->sym)
        add(m, "weight_zero_point", "I32", (m->rows * p->bits + 31) / 32, m->groups);
    if (p->order)
        add_order(m, "weight_g_idx");
    memcpy(add(m, "weight_shape", "I64", 2, 0)->data, shape, sizeof shape);
}

static void fp8(const struct module *m, const struct support_packing *p)
{
    const int rows = p->block_rows < 0 ? m->rows : p->block_rows;
    const int cols = p->block_cols < 0 ? m->cols : p->block_cols;
    add(m, "weight", "F8_E4M3", m->rows, m->cols);
    add(m, p->scale_name, p->scales, (m->rows - 1) / rows + 1, (m->cols - 1) / cols + 1);
}

void support_pack(struct support_checkpoint *c, const char *module, const struct support_packing *p)
{
    static const struct {
        const char *name;
        void (*add)(const struct module *m, const struct support_packing *p);
    } forms[] = {{"gptq", gptq}, {"awq", awq}, {"compressed-tensors", compressed}, {"fp8", fp8}};
    char name[128];
    snprintf(name, sizeof name, "%s.weight", module);
    const struct support_tensor *plain = support_find(c, name);
    struct module m = {c, module, (int)plain->dims[0], (int)plain->dims[1], 1};
    if (p->group > 0)
        m.groups = (m.cols - 1) / p->group + 1;
    support_drop(c, name);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(p->form, forms[i].name))
            forms[i].add(&m, p);
}

const char *support_packing_config(const struct support_packing *p)
{
    static char config[512];
    const char *sym = p->sym ? "true" : "false";
    char group[64] = "\"channel\"";
    if (p->group > 0)
        snprintf(group, sizeof group, "\"group\", \"group_size\": %d", p->group);
    if (!strcmp(p->form, "gptq"))
        snprintf(config, sizeof config,
                 "{\"quant_method\": \"gptq\", \"bits\": %d, \"group_size\": %d, \"sym\": %s,"
                 " \"desc_act\": %s, \"checkpoint_format\": \"%s\"}",
                 p->bits, p->group, sym, p->order ? "true" : "false",
                 p->zero_offset ? "gptq" : "gptq_v2");
    else if (!strcmp(p->form, "awq"))
        snprintf(config, sizeof config,
                 "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": %d, \"zero_point\": %s,"
                 " \"version\": \"gemm\", \"modules_to_not_convert\": [\"lm_head\"]}",
                 p->group, p->sym ? "false" : "true");
    else if (!strcmp(p->form, "compressed-tensors"))
        snprintf(config, sizeof config,
                 "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\","
                 " \"ignore\": [\"lm_head\"], \"config_groups\": {\"group_0\": {\"targets\":"
                 " [\"Linear\"], \"weights\": {\"num_bits\": %d, \"type\": \"int\","
                 " \"symmetric\": %s, \"strategy\": %s, \"actorder\": %s}}}}",
                 p->bits, sym, group, p->order ? "\"group\"" : "null");
    else if (!strcmp(p->scale_name, "weight_scale_inv"))
        snprintf(config, sizeof config,
                 "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\":"
                 " \"dynamic\", \"weight_block_size\": [%d, %d]}",
                 p->block_rows, p->block_cols);
    else
        snprintf(config, sizeof config,
                 "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\","
                 " \"config_groups\": {\"group_0\": {\"targets\": [\"re:model.*\"], \"weights\":"
                 " {\"num_bits\": 8, \"type\": \"float\", \"symmetric\": true, \"strategy\":"
                 " \"%s\", \"block_structure\": [%d, %d]}}}}",
                 p->block_cols > 0   ? "block"
                 : p->block_rows < 0 ? "tensor"
                                     : "channel",
                 p->block_rows, p->block_cols);
    return config;
}
