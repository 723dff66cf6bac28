/* applet.h - how a command joins the binary.
 * A file of this folder starts with one line per command, which the Makefile gathers into the table of
 * src/main.c:
 *
 *	APPLET(NAME, MAIN, "ALIAS ...", "help line")
 *
 * NAME     as in `nestbox NAME`; letters and digits, no quotes.
 * MAIN     int MAIN(int argc, char **argv); argv[0] is NAME, and the return value the exit status.
 *          It answers --help (text on stdout, 0) itself, as only it knows its options.
 * ALIAS    further names, space separated, matched as argv[0] and as first argument; the first is the
 *          stock program's name and is what `nestbox --install` makes.
 * Here the line only declares MAIN. */
#ifndef NB_APPLETS_APPLET_H
#define NB_APPLETS_APPLET_H

#define APPLET(name, main_fn, aliases, help) int main_fn(int argc, char **argv);

#endif
