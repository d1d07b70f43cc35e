/* The host's commands: what each does, and the starts that take their time. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "process.h"
#include "protocol.h"

/* What came of a command. LATER: command_started will say, or the VM powers off. */
enum outcome { DONE, FAILED, LATER };

/* Set by commands: the pod is to end, and the VM with it; the VM ends once the host has its answer, as an original's does
 * when STARTPOD fails. */
extern bool destroy_requested, off_after_answer;

/* Perform a command. DONE: `reply` is what its ACK carries. FAILED: `failure` says why; a host that did not say HELLO
 * gets `reply` instead. */
enum outcome command_perform(uint32_t code, const uint8_t *payload, size_t length, struct buffer *reply);

/* A start is under way; only one is at a time, so no other command can be performed. */
bool command_waits(void);

/* The start of a process came to its end: what came of the command that waits for it. */
enum outcome command_started(struct process *process);

#endif
