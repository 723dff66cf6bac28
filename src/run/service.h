/* service.h - the agent as a service of the machine: a systemd unit, an OpenRC script or OpenWrt's
 * procd script, and the tools of those init systems. What was chosen at installation is kept in service.json,
 * as stock keeps it. Source: spec/client.md 1.9. Tests: tests/unit/run_service_test.c */
#ifndef NB_RUN_SERVICE_H
#define NB_RUN_SERVICE_H

#include <limits.h>
#include <stdbool.h>

#include "base/buf.h"

enum run_init { RUN_INIT_SYSTEMD, RUN_INIT_OPENRC, RUN_INIT_PROCD };
enum run_service_state { RUN_SERVICE_STOPPED, RUN_SERVICE_RUNNING, RUN_SERVICE_UNKNOWN };

struct run_service {
	enum run_init init;
	char name[64];
	char binary[PATH_MAX];		/* of this program */
	bool word;			/* the binary needs the word "client" first */
	char state_dir[PATH_MAX];
	void *params;			/* service.json */
	char why[400];			/* after a failure: one line */
};

/* Find the init system and the saved parameters. Returns 0, NB_E_UNSUPPORTED (no init system we know),
 * NB_E_ARG (name) or NB_E_CONFIG, with why. */
int run_service_init(struct run_service *s, const char *name, const char *state_dir, char *why, size_t why_cap);
void run_service_fini(struct run_service *s);

/* Parameters by their names in service.json. An empty value removes one; "true" makes a switch. */
void run_service_set(struct run_service *s, const char *param, const char *value);
void run_service_set_list(struct run_service *s, const char *param, char *const *v, size_t n);
/* KEY=VALUE texts, added to the saved ones; none clears them. Returns 0 or NB_E_ARG with why. */
int run_service_set_env(struct run_service *s, char *const *v, size_t n, char *why, size_t why_cap);

/* The file for the init system. Returns out->err. */
int run_service_text(const struct run_service *s, struct nb_buf *out);
/* Where it goes. */
void run_service_path(const struct run_service *s, char out[PATH_MAX]);

/* Each returns 0 or an error with s->why. */
int run_service_install(struct run_service *s);
int run_service_uninstall(struct run_service *s);
/* start, stop, restart */
int run_service_action(struct run_service *s, const char *action);
bool run_service_installed(const struct run_service *s);
enum run_service_state run_service_state(struct run_service *s);
/* Remove service.json; NB_E_NOTFOUND when there is none. */
int run_service_forget(struct run_service *s);

#endif
