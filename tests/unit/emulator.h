/* emulator.h - what qemu-user gets wrong, so that tests do not blame the program for it. EMULATOR is set by the
 * Makefile for targets that are run in one. */
#ifndef NB_TEST_EMULATOR_H
#define NB_TEST_EMULATOR_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Ancillary data of UDP (segment size, traffic class) is passed on without swapping its bytes. */
static inline bool emulator_ancillary(void)
{
	return getenv("EMULATOR") && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
}

/* SO_ERROR has the number of the machine's own kernel, which is another one on MIPS. */
static inline bool emulator_so_error(void)
{
	return getenv("EMULATOR") && ECONNREFUSED != 111;
}

/* Programs that choose a socket (SO_ATTACH_REUSEPORT_CBPF), runs of datagrams beside an address, IP_MTU: not known to it. */
static inline bool emulator_sockets(void)
{
	return getenv("EMULATOR");
}

#endif
