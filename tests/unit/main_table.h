/* main_table.h - the table main_test.c gives to main.c, as out/gen/applets.h is for the program. */
APPLET(alpha, alpha_main, "nbtest-alpha alfa", "the first one")
APPLET(beta, beta_main, "nbtest-beta", "the second one")
APPLET(plain, alpha_main, "", "has no stock name")
