/* One run of memory in pieces. The host keeps the books, so that the memory itself may be on a
 * card. Pieces lie in order of their offsets in one array; neighbours that are free are joined. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gpu.h"

enum { PIECE_ALIGN = 256 };

struct piece {
    size_t offset, bytes;
    bool taken;
};

struct gpu_arena {
    struct piece *piece;
    int n, room;
    int hint; /* no free piece before this one */
};

struct gpu_arena *gpu_arena_open(size_t bytes)
{
    struct gpu_arena *a = (struct gpu_arena *)calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->room = 64;
    a->piece = (struct piece *)malloc((size_t)a->room * sizeof *a->piece);
    if (!a->piece) {
        free(a);
        return NULL;
    }
    a->piece[0] = (struct piece){0, bytes / PIECE_ALIGN * PIECE_ALIGN, false};
    a->n = 1;
    return a;
}

void gpu_arena_close(struct gpu_arena *a)
{
    if (a)
        free(a->piece);
    free(a);
}

/* Opens a gap at index i. */
static bool insert_piece(struct gpu_arena *a, int i)
{
    if (a->n == a->room) {
        struct piece *grown =
            (struct piece *)realloc(a->piece, 2 * (size_t)a->room * sizeof *grown);
        if (!grown)
            return false;
        a->piece = grown;
        a->room *= 2;
    }
    memmove(a->piece + i + 1, a->piece + i, (size_t)(a->n - i) * sizeof *a->piece);
    a->n++;
    return true;
}

static void remove_piece(struct gpu_arena *a, int i)
{
    a->n--;
    memmove(a->piece + i, a->piece + i + 1, (size_t)(a->n - i) * sizeof *a->piece);
}

size_t gpu_arena_take(struct gpu_arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - PIECE_ALIGN)
        return SIZE_MAX;
    bytes = (bytes + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    while (a->hint < a->n && a->piece[a->hint].taken)
        a->hint++;
    for (int i = a->hint; i < a->n; i++) {
        if (a->piece[i].taken || a->piece[i].bytes < bytes)
            continue;
        size_t offset = a->piece[i].offset;
        if (a->piece[i].bytes > bytes) {
            if (!insert_piece(a, i))
                return SIZE_MAX;
            a->piece[i + 1].offset += bytes;
            a->piece[i + 1].bytes -= bytes;
        }
        a->piece[i] = (struct piece){offset, bytes, true};
        return offset;
    }
    return SIZE_MAX;
}

size_t gpu_arena_give(struct gpu_arena *a, size_t offset)
{
    int low = 0, high = a->n - 1;
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (a->piece[mid].offset < offset)
            low = mid + 1;
        else
            high = mid;
    }
    int i = low;
    if (a->piece[i].offset != offset || !a->piece[i].taken)
        return 0;
    const size_t bytes = a->piece[i].bytes;
    a->piece[i].taken = false;
    if (i + 1 < a->n && !a->piece[i + 1].taken) {
        a->piece[i].bytes += a->piece[i + 1].bytes;
        remove_piece(a, i + 1);
    }
    if (i > 0 && !a->piece[i - 1].taken) {
        i--;
        a->piece[i].bytes += a->piece[i + 1].bytes;
        remove_piece(a, i + 1);
    }
    if (i < a->hint)
        a->hint = i;
    return bytes;
}
