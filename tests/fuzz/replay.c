/* replay.c - run one fuzz harness over kept seeds, without a fuzzer: make check does this for each harness,
 * so that an input that once broke something is tried for ever. Arguments: folders of seeds. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	long size;

	if (!f || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) < 0) {
		perror(path);
		exit(1);
	}
	/* exactly as long as the input, so that a read past its end is seen */
	data = malloc(size ? (size_t)size : 1);
	if (!data || fread(data, 1, (size_t)size, f) != (size_t)size) {
		perror(path);
		exit(1);
	}
	fclose(f);
	LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
}

static unsigned one_folder(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[4096];
	unsigned n = 0;

	if (!d) {
		perror(dir);
		exit(1);
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		one_file(path);
		n++;
	}
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	unsigned n = 0;
	uint8_t none = 0;

	LLVMFuzzerTestOneInput(&none, 0);
	for (int i = 1; i < argc; i++)
		n += one_folder(argv[i]);
	if (n == 0) {
		fprintf(stderr, "no seeds\n");
		return 1;
	}
	printf("[       OK ] %u seeds replayed\n", n);
	return 0;
}
