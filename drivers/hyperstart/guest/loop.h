/* The one event loop. Every descriptor in it is edge-triggered: whoever stops before EAGAIN must come back himself. */
#ifndef LOOP_H
#define LOOP_H

#include "util.h"

/* Embedded in what owns the descriptor. `ready` may end the owner, but must free it by loop_free. */
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

/* free() after the events at hand are handled, one of which may be for a watch in this memory. */
void loop_free(void *memory);

/* Run the loop's `turn` again at once: there is more to do than one turn should. */
void loop_again(void);

/* Call `ready` once, in so many milliseconds; the latest call counts. */
void loop_alarm(int milliseconds_from_now, void (*ready)(void));

/* Handle events for ever; `turn` runs after each batch of them. */
_Noreturn void loop_run(void (*turn)(void));

#endif
