#include "tui/layout.h"

static int min(int a, int b)
{
    return a < b ? a : b;
}

static int max(int a, int b)
{
    return a > b ? a : b;
}

/* Rows the input may take at most on a screen of so many rows. */
static int input_max(int rows)
{
    return max(1, min(rows / 3, 12));
}

void layout_make(struct layout *l, const struct layout_wants *w)
{
    *l = (struct layout){0};
    if (w->rows < LAYOUT_MIN_ROWS || w->cols < LAYOUT_MIN_COLS) {
        l->too_small = true;
        return;
    }
    /* A panel may not make the text narrower than a small screen. */
    int panel = w->panel > 0 && w->cols - w->panel >= 2 * LAYOUT_MIN_COLS ? w->panel : 0;
    int left = w->cols - panel;
    int status = max(0, min(w->status, 3));
    int input = max(1, min(w->input, input_max(w->rows)));
    int main_rows = w->rows - status - input - 1; /* the rule */
    /* The drawer comes only where as much is left for the text. */
    int anatomy = w->anatomy > 0 && main_rows >= 2 * w->anatomy ? w->anatomy : 0;
    int rule = main_rows;
    main_rows -= anatomy;

    int board = 0;
    if (w->board > 0) {
        /* The board gives way to text, but keeps at least half of the place. */
        board = min(w->board, main_rows);
        int text = min(w->transcript, main_rows);
        board = max(min(board, main_rows - text), min(board, (main_rows + 1) / 2));
    }
    int text = main_rows - board;
    l->board = (struct layout_rect){0, 0, board, board ? left : 0};
    l->transcript = (struct layout_rect){board, 0, text, text ? left : 0};
    l->anatomy = (struct layout_rect){main_rows, 0, anatomy, anatomy ? left : 0};
    l->rule = (struct layout_rect){rule, 0, 1, left};
    l->input = (struct layout_rect){rule + 1, 0, input, left};
    l->status = (struct layout_rect){w->rows - status, 0, status, status ? w->cols : 0};
    if (panel)
        l->panel = (struct layout_rect){0, left, w->rows - status, panel};
    int popup = min(w->popup, rule);
    if (popup > 0)
        l->popup = (struct layout_rect){rule - popup, 0, popup, left};
}
