/* clock.h - time that only goes on, and waiting by it. Any thread. */
#ifndef LADE_CLOCK_H
#define LADE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>

/* Seconds since some moment. */
double lade_now(void);

/* A condition for lade_cond_wait(), which is not disturbed when somebody sets the time of day. */
void lade_cond_init(pthread_cond_t *cond);

/* Under the lock: waits, for `seconds` (below 1) at most; false where nobody signalled until then. */
bool lade_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, double seconds);

#endif
