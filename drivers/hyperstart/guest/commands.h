/* Performs the host's commands, and remembers the one that is starting a process. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "process.h"
#include "protocol.h"

/* The result of a command. LATER: command_started returns it once the process has started, or the VM powers off. */
enum outcome { DONE, FAILED, LATER };

/* Set by commands. `destroy_requested`: DESTROYPOD came; the VM powers off once the pod has ended. `off_after_answer`:
 * the VM powers off once the answer is sent, as that of an original agent does when STARTPOD fails. */
extern bool destroy_requested, off_after_answer;

/* Perform a command; called for each frame of the control channel. DONE: `reply` is the payload of its ACK. FAILED:
 * `failure` has the reason; to a host without HELLO, `reply` is sent instead. */
enum outcome command_perform(uint32_t code, const uint8_t *payload, size_t length, struct buffer *reply);

/* Whether a start is in progress. There is one at a time, so until then no further command can be performed. */
bool command_waits(void);

/* Called when a process has started, or has failed to; returns the result of the command that started it. */
enum outcome command_started(struct process *process);

#endif
