/* client_cli.h - what the files of the command `netbird` share: values of the options, the daemon
 * connection, answers. One process runs one command, so the option values are plain globals here. */
#ifndef NB_APPLETS_CLIENT_CLI_H
#define NB_APPLETS_CLIENT_CLI_H

#include "base/arena.h"
#include "base/opts.h"
#include "proto/daemon.pb-c.h"
#include "run/rpc_client.h"

/* Root options. */
struct cli_root {
	const char *daemon_addr, *management_url, *admin_url, *log_level, *setup_key, *setup_key_file, *preshared_key,
		*hostname, *anonymize_level, *config, *service, *ca_file;
	struct nb_opt_list log_files;
	bool anonymize;
	bool has_preshared_key, has_setup_key, has_setup_key_file, has_log_level, has_config, has_anonymize_level,
		has_daemon_addr, has_management_url, has_log_file, has_ca_file;
};
extern struct cli_root cli_root;

/* One command, or a group of them. Tables end with a row without a name. */
struct cli_command {
	const char *name;
	const char *aliases;		/* space separated */
	const char *args;		/* usage: "<name>", "[flags]" */
	const char *brief;
	const char *about;		/* help text; NULL: brief */
	const struct nb_opt *opts;	/* may be NULL */
	bool env;			/* the options have environment variables */
	int nargs;			/* exactly so many arguments; -1: any */
	int (*run)(int argc, const char **argv);	/* returns an exit status */
	const struct cli_command *subs;
	const char *instead;		/* not built: what to use in its place */
};

/* "Error: ..." and status 1. */
int cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A call that failed: the guidance of a privilege refusal alone, else "context: rpc error: code = X desc = Y". */
int cli_call_error(const char *context, const struct run_rpc_result *r);

/* The daemon; NULL after printing how to start it. */
struct run_rpc *cli_dial(void);
/* Like run_rpc_call for /daemon.DaemonService/NAME with timeout in seconds (0: none). */
int cli_call(struct run_rpc *rpc, const char *name, const void *request, const ProtobufCMessageDescriptor *desc,
	     void **answer, struct nb_arena *a, int seconds, struct run_rpc_result *r);
#define CLI_CALL(rpc, name, request, type, answer, a, seconds, r) \
	cli_call(rpc, name, request, &daemon__##type##__descriptor, (void **)(answer), a, seconds, r)

/* The setup key of --setup-key or --setup-key-file, "" for none. Returns 0 or an exit status. */
int cli_setup_key(char *out, size_t cap);
/* ID as people see it: eight characters. */
void cli_short_id(char out[16], const char *id);
/* Without control characters, for the terminal. */
void cli_print_clean(const char *s);
/* SwitchProfile, creating the profile when create is set; also remembered for the user. id: CLIENT_PROFILE_ID_LEN. */
int cli_switch_profile(struct run_rpc *rpc, const char *handle, const char *user, bool create, char *id);

extern const struct nb_opt cli_up_opts[], cli_status_opts[], cli_login_opts[], cli_logout_opts[],
	cli_profile_list_opts[], cli_paths_opts[], cli_service_opts[], cli_service_install_opts[];
int cli_up(int argc, const char **argv);
int cli_down(int argc, const char **argv);
int cli_login(int argc, const char **argv);
int cli_logout(int argc, const char **argv);
int cli_status(int argc, const char **argv);
int cli_debug_paths(int argc, const char **argv);
extern const struct cli_command cli_profile_commands[], cli_debug_commands[], cli_service_commands[];

#define CLI_DEFAULT_LOG "/var/log/netbird/client.log"
#define CLI_DEFAULT_ADDR "unix:///var/run/netbird.sock"
#define CLI_DEFAULT_STATE "/var/lib/netbird"
/* NB_STATE_DIR or the default. */
const char *cli_state_dir(void);
/* Every --log-file is console or syslog: the command is meant to run without the service. */
bool cli_without_service(void);

#endif
