#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 64 };

static int epoll_fd = -1;
static bool again;

static void (*alarm_ready)(void);
static int64_t alarm_at;

/* Memory to be freed after the current batch of events, linked through its first bytes. */
static void *garbage;

static struct epoll_event events[BATCH];
static int event_count;

void loop_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fatal("guest agent: epoll_create1: %s", strerror(errno));
}

bool loop_watch(struct watch *watch, uint32_t wanted)
{
	struct epoll_event event = {.events = wanted | EPOLLET, .data.ptr = watch};

	return !epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watch->fd, &event);
}

void loop_close(struct watch *watch)
{
	if (watch->fd < 0)
		return;
	/* Explicitly, because a child before its execve may still have the file description open. */
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	close(watch->fd);
	watch->fd = -1;
	for (int i = 0; i < event_count; i++)
		if (events[i].data.ptr == watch)
			events[i].data.ptr = NULL;
}

void loop_free(void *memory)
{
	*(void **)memory = garbage;
	garbage = memory;
}

static void free_garbage(void)
{
	while (garbage) {
		void *memory = garbage;

		garbage = *(void **)memory;
		free(memory);
	}
}

void loop_again(void)
{
	again = true;
}

void loop_alarm(int milliseconds_from_now, void (*ready)(void))
{
	alarm_at = milliseconds() + milliseconds_from_now;
	alarm_ready = ready;
}

static int timeout(void)
{
	int64_t left;

	if (again)
		return 0;
	if (!alarm_ready)
		return -1;
	left = alarm_at - milliseconds();
	return left < 0 ? 0 : (int)left;
}

static void ring_alarm(void)
{
	void (*ready)(void) = alarm_ready;

	if (!ready || milliseconds() < alarm_at)
		return;
	alarm_ready = NULL;
	ready();
}

void loop_run(void (*turn)(void))
{
	for (;;) {
		event_count = epoll_wait(epoll_fd, events, BATCH, timeout());
		if (event_count < 0 && errno != EINTR)
			fatal("guest agent: epoll_wait: %s", strerror(errno));
		again = false;
		for (int i = 0; i < event_count; i++) {
			struct watch *watch = events[i].data.ptr;

			if (watch)
				watch->ready(watch, events[i].events);
		}
		event_count = 0;
		ring_alarm();
		turn();
		free_garbage();
	}
}
