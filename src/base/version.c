/* version.c - see version.h. The Makefile gives both values, to this file only, so that a new commit
 * compiles one file. */
#include "base/version.h"

const char nb_version[] = NB_VERSION;
const int64_t nb_build_epoch = NB_BUILD_EPOCH;
