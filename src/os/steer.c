/* steer.c - see steer.h. The table is a trie of the kernel's; a key is a length in bits, the IP version in 32 bits and an
 * address. */
#include "os/steer.h"

#include "os/os_int.h"
#include "os/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/if_tun.h>

struct key {
	uint32_t bits;
	uint32_t version;
	uint8_t address[16];
};

static int bpf(int command, union bpf_attr *a)
{
	return (int)syscall(SYS_bpf, command, a, sizeof *a);
}

#define INSN(c, d, s, o, i) { .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) }
#define MOVE(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define STORE(size, o, i) INSN(BPF_ST | BPF_MEM | (size), 10, 0, o, i)
#define IF(op, d, i, o) INSN(BPF_JMP | (op) | BPF_K, d, 0, o, i)
#define CALL(i) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, i)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* Register 10 is the end of the program's memory, where the key is made: 24 bytes. */
static int load(int table)
{
	const struct bpf_insn program[] = {
		MOVE(6, 1),
		INSN(BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, 0),	/* the first byte, or the end */
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, 0, 0, 0, 4),
		STORE(BPF_DW, -16, 0),
		STORE(BPF_DW, -8, 0),
		INSN(BPF_STX | BPF_MEM | BPF_W, 10, 0, -20, 0),	/* version */
		IF(BPF_JNE, 0, 4, 4),
		STORE(BPF_W, -24, 64),
		SET(2, 16),					/* where the destination is */
		SET(4, 4),					/* and its bytes */
		INSN(BPF_JMP | BPF_JA, 0, 0, 4, 0),
		IF(BPF_JNE, 0, 6, 14),
		STORE(BPF_W, -24, 160),
		SET(2, 24),
		SET(4, 16),
		MOVE(1, 6),
		MOVE(3, 10),
		ADD(3, -16),
		CALL(BPF_FUNC_skb_load_bytes),
		IF(BPF_JNE, 0, 0, 6),
		INSN(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, table),
		INSN(0, 0, 0, 0, 0),
		MOVE(2, 10),
		ADD(2, -24),
		CALL(BPF_FUNC_map_lookup_elem),
		IF(BPF_JNE, 0, 0, 2),
		SET(0, 0),
		EXIT,
		INSN(BPF_LDX | BPF_MEM | BPF_W, 0, 0, 0, 0),	/* the queue */
		EXIT,
	};
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	a.insns = (uintptr_t)program;
	a.insn_cnt = sizeof program / sizeof program[0];
	a.license = (uintptr_t)"BSD";
	return bpf(BPF_PROG_LOAD, &a);
}

int os_steer_open(int *table, int tun)
{
	union bpf_attr a;
	int program, err;

	memset(&a, 0, sizeof a);
	a.map_type = BPF_MAP_TYPE_LPM_TRIE;
	a.key_size = sizeof(struct key);
	a.value_size = sizeof(uint32_t);
	a.max_entries = OS_STEER_MAX;
	a.map_flags = BPF_F_NO_PREALLOC;
	*table = bpf(BPF_MAP_CREATE, &a);
	if (*table < 0)
		return os_fail(errno);
	program = load(*table);
	/* The interface holds the program, and the program the table. */
	err = program < 0 || ioctl(tun, TUNSETSTEERINGEBPF, &program) ? os_fail(errno) : 0;
	if (program >= 0)
		close(program);
	if (err)
		os_close(table);
	return err;
}

static struct key key_of(const struct nb_prefix *p)
{
	struct key k = { .bits = 32u + p->len, .version = p->addr.family };

	memcpy(k.address, p->addr.ip, p->addr.family == 4 ? 4 : 16);
	return k;
}

int os_steer_set(int table, const struct nb_prefix *prefix, uint32_t queue)
{
	struct key k = key_of(prefix);
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)table;
	a.key = (uintptr_t)&k;
	a.value = (uintptr_t)&queue;
	return bpf(BPF_MAP_UPDATE_ELEM, &a) ? os_fail(errno) : 0;
}

static void clear(int table, const struct key *k)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)table;
	a.key = (uintptr_t)k;
	bpf(BPF_MAP_DELETE_ELEM, &a);
}

void os_steer_clear(int table, const struct nb_prefix *prefix)
{
	struct key k = key_of(prefix);

	clear(table, &k);
}

void os_steer_clear_all(int table)
{
	union bpf_attr a;
	struct key k;

	for (int n = 0; n < OS_STEER_MAX; n++) {
		memset(&a, 0, sizeof a);
		a.map_fd = (uint32_t)table;
		a.next_key = (uintptr_t)&k;
		if (bpf(BPF_MAP_GET_NEXT_KEY, &a))
			return;
		clear(table, &k);
	}
}
