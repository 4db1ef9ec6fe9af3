/* remote.h - an engine whose model is behind an OpenAI-compatible server. */
#ifndef LADE_REMOTE_REMOTE_H
#define LADE_REMOTE_REMOTE_H

#include "engine/session/worker.h"

extern const struct lade_worker lade_worker_remote;

#endif
