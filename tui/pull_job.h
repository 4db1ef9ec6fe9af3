/* pull_job.h - a download beside the chat, on its own thread. */
#ifndef LADE_TUI_PULL_JOB_H
#define LADE_TUI_PULL_JOB_H

#include <limits.h>
#include <stdbool.h>

#include "engine/hub/fetch.h"

/* What every pull has in common: the models directory and what HF_ENDPOINT and HF_TOKEN say.
 * *token is to be freed when the download is over; the other strings live as long as `models` and
 * the environment. */
int pull_settings(struct lade_fetch_options *o, char models[PATH_MAX], char **token, char *err);

struct pull_job;

/* Starts to fetch `what` ("ORG/NAME:Q4_K_M", copied). The caller ends it with pull_job_end. */
int pull_job_start(struct pull_job **out, const char *what, char *err);

enum { PULL_TEXT = 12 * 1024 };

/* Writes the lines to show, the last without a newline; `width` columns are used from the next
 * change on. The state is that of the moment: when it is not PULL_RUNS the text is the path of the
 * model, or the error line. */
enum pull_state { PULL_RUNS, PULL_DONE, PULL_FAILED };
enum pull_state pull_job_look(struct pull_job *j, int width, bool utf8, char text[PULL_TEXT]);

/* Asks it to stop; it will have failed soon. What was fetched stays. */
void pull_job_cancel(struct pull_job *j);

/* Cancels it, waits (a fraction of a second) and frees it. NULL is allowed. */
void pull_job_end(struct pull_job *j);

#endif
