/* config.h - stock's configuration files, as far as they mean something here: management.json of the management
 * server and config.yaml of the combined one. Text in, values out; reading files is the driver's.
 * management-domain.md sections 6.1, 6.4. Tests: tests/unit/mgmt_config_test.c, tests/fuzz/mgmt_config_fuzz.c */
#ifndef NB_MGMT_CONFIG_H
#define NB_MGMT_CONFIG_H

#include "base/arena.h"
#include "mgmt/mgmt.h"

#define MGMT_FILE_MAX ((size_t)1 << 20)	/* bytes of a configuration file */
#define MGMT_FILE_NOTES 16

/* NULL and 0: not in the file. Everything lives in mem. */
struct mgmt_file {
	struct nb_arena mem;
	struct mgmt_config mgmt;	/* servers, flows, no_default_policy */
	const char *data_dir, *cert_file, *key_file;
	const char *listen, *external_url, *log_level, *log_file;	/* config.yaml only, like what follows */
	const char *secret;		/* authSecret */
	const char *metrics_port;
	const char *stun_ports;		/* "3478,3479" */
	bool other_signal, other_relay, other_stun;	/* the local service is off */
	/* Settings without effect, one line each for the log. */
	const char *notes[MGMT_FILE_NOTES];
	size_t n_notes;
};

void mgmt_file_init(struct mgmt_file *f);
void mgmt_file_fini(struct mgmt_file *f);
/* Parse. {{.NAME}} in management.json is replaced by env(NAME) (NULL: empty). why gets one line on failure.
 * Returns 0, NB_E_CONFIG or NB_E_NOMEM. */
int mgmt_file_json(struct mgmt_file *f, struct nb_bytes text, const char *(*env)(const char *name), char *why,
		   size_t cap);
int mgmt_file_yaml(struct mgmt_file *f, struct nb_bytes text, char *why, size_t cap);
/* "12h", "1h30m", "90s": Go's durations of hours, minutes, seconds, ms. Returns ns, or -1. */
int64_t mgmt_duration(const char *text);

#endif
