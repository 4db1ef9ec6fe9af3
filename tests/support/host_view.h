/* host_view.h - a GPU's op table for tests that hold everything in host memory.
 *
 * The kernel tests were written for a device whose memory is the host's. This table takes host
 * addresses, brings every operand to the device (outputs too, so that a value that is not written
 * stays poison), runs the op there, brings outputs back and checks the bytes around them. */
#ifndef LADE_TESTS_HOST_VIEW_H
#define LADE_TESTS_HOST_VIEW_H

#include "kernels/kernels.h"

/* A table over `inner`: open(), close(), describe() and the ops; all else is NULL. One inner table
 * at a time. */
const struct lade_ops *host_view(const struct lade_ops *inner);

/* The device inside, for what the view does not offer. */
struct lade_device *host_view_inner(struct lade_device *dev);

#endif
