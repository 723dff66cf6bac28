/* steer.c - see steer.h. A load beyond the end of the datagram ends the program with 0: the first thread. */
#include "run/steer.h"

#include <linux/filter.h>

#define LOAD(at) BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (at))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))

const struct sock_filter *run_steer(unsigned *length)
{
	/* Transport and cookie (4, 3) have the receiver at 4, a response (2) at 8; a channel header is 4 bytes more. */
	static const struct sock_filter program[] = {
		LOAD(0),
		IF(4, 9, 0),
		IF(3, 8, 0),
		IF(2, 9, 0),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xc0),
		IF(0x40, 0, 4),
		LOAD(4),
		IF(4, 5, 0),
		IF(3, 4, 0),
		IF(2, 5, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		LOAD(4),
		BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
		LOAD(8),
		BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
		LOAD(12),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 3),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};

	*length = sizeof program / sizeof program[0];
	return program;
}
