/* The event loop. Descriptors are edge-triggered: a reader that stops before EAGAIN gets no further event, and must
 * resume by itself. */
#ifndef LOOP_H
#define LOOP_H

#include "util.h"

/* Embedded in the structure that owns the descriptor. `ready` is called with the events of epoll(7); it may free that
 * structure, but only by loop_free. */
struct watch {
	int fd;
	void (*ready)(struct watch *watch, uint32_t events);
};

/* The structure of type `type` whose member `member` is *pointer. */
#define OWNER(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

void loop_init(void);
bool loop_watch(struct watch *watch, uint32_t events);

/* Close the descriptor, if open, and forget it. */
void loop_close(struct watch *watch);

/* Call free() once the current batch of events is handled: one of them may be for a watch in this memory. */
void loop_free(void *memory);

/* Run `turn` again without waiting for an event: there is more work than one turn should do. */
void loop_again(void);

/* Call `ready` once, after so many milliseconds. There is one alarm: a new call replaces it. */
void loop_alarm(int milliseconds_from_now, void (*ready)(void));

/* Handle events until the VM ends; `turn` is called after each batch of them. */
_Noreturn void loop_run(void (*turn)(void));

#endif
